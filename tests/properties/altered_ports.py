"""Ports made of the reference by changing what it is asked or what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching
from detr_conformance.reference import HungarianMatcher, RTDETRDetectionLoss

Losses = dict[str, np.ndarray]


MAIN = ("loss_class", "loss_bbox", "loss_giou")


class Altered(ReferencePort):
    """The reference, with its losses changed by a function of them and of the case."""

    def __init__(self, alter: Callable[[Losses, LossCase], Losses | None]) -> None:
        super().__init__("altered")
        self.alter = alter

    def loss(self, case: LossCase) -> LossResult:
        result = super().loss(case)
        losses = dict(result.losses)
        return replace(result, losses=self.alter(losses, case) or losses)


def plus(term: Callable[[LossCase], Any], *keys: str) -> Altered:
    """Adds something to these losses, by default to all three of the main layer."""
    return Altered(lambda losses, case: losses | {key: losses[key] + term(case) for key in keys or MAIN})


def times(factor: float, *keys: str) -> Altered:
    return Altered(lambda losses, _case: losses | {key: losses[key] * factor for key in keys})


def asked_otherwise(change: Callable[[LossCase], LossCase]) -> ReferencePort:
    """Understands every case as another one."""

    class Misled(ReferencePort):
        def loss(self, case: LossCase) -> LossResult:
            return super().loss(change(case))

    return Misled("misled")


class WrongSlopes(ReferencePort):
    """The reference, with its gradients changed entry by entry."""

    def __init__(self, alter: Callable[[str, str, np.ndarray], np.ndarray]) -> None:
        super().__init__("wrong slopes")
        self.alter = alter

    def loss(self, case: LossCase) -> LossResult:
        result, inputs = super().loss(case), case.float_arrays()
        names = [name for name in inputs if name != "gt_bboxes" and not ("dn" in name and case.denoising is None)]
        gradients = {
            key: {name: self.alter(key, name, by.get(name, np.zeros(inputs[name].shape))) for name in names}
            for key, by in result.gradients.items()
        }
        return replace(result, gradients=gradients)


class OtherMatching(ReferencePort):
    """The reference, with its matching changed image by image."""

    def __init__(self, alter: Callable[[np.ndarray, np.ndarray, LossCase], tuple[Any, Any]]) -> None:
        super().__init__("other matching")
        self.alter = alter

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        return [[self.alter(*pair, case) for pair in layer] for layer in super().match(case)]


def matches_otherwise(change: Callable[[LossCase], LossCase]) -> ReferencePort:
    """Matches every case as if it were another one."""

    class Misled(ReferencePort):
        def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
            return super().match(change(case))

    return Misled("misled")


def with_matcher(kind: type[HungarianMatcher]) -> ReferencePort:
    class Loss(RTDETRDetectionLoss):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.matcher = kind(cost_gain=self.matcher.cost_gain)

    return ReferencePort(kind.__name__, Loss)


class Generator(ReferencePort):
    """The reference's generator, with its result or its arguments changed."""

    def __init__(
        self,
        alter: Callable[[DenoisingGroup, LossCase], DenoisingGroup] = lambda group, _case: group,
        **options: Any,
    ) -> None:
        super().__init__("other generator")
        self.alter = alter
        self.options = options

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        group = super().denoising_group(case.change(generator=replace(case.generator, **self.options)))
        return None if group is None else self.alter(group, case)


def matcher_with(**options: Callable[[MatcherConfig], Any]) -> ReferencePort:
    """Matches with other options than it was asked for."""

    def changed(case: LossCase) -> LossCase:
        return case.change(matcher=replace(case.matcher, **{name: of(case.matcher) for name, of in options.items()}))

    return matches_otherwise(changed)


def more_gain(term: str, factor: float) -> Callable[[MatcherConfig], dict[str, float]]:
    return lambda matcher: {**matcher.cost_gain, term: factor * matcher.cost_gain[term]}
