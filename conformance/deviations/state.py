"""Deviations in what a call leaves behind: in the loss object, in its class, in the whole process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import LossResult
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import Losses, RTDETRDetectionLoss


class KeepsRoundedAlpha(ReferencePort):
    """One loss object whose alpha has gone through the dtype of every batch so far."""

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Each case by a loss that has the rounded alpha from the start."""
        results, config = list[LossResult](), cases[0].config
        for case in cases:
            config = replace(config, alpha=float(rounded(np.array(config.alpha), case.dtype)))
            results += super().losses_in_turn([replace(case, config=config)])
        return results


class OneDictForAll(ReferencePort):
    """Every loss that it builds gets one and the same dict of gains."""

    def __init__(self, name: str, loss_class: type[RTDETRDetectionLoss], denoising: Callable[..., Any]) -> None:
        """Two ports share nothing."""
        super().__init__(name, type("Loss", (loss_class,), {"gains": {}}), denoising)


class DefaultGainsKept(RTDETRDetectionLoss):
    """The first loss writes its gains into the default of the others."""

    gains: dict[str, float]

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with what is in the dict."""
        super().__init__(*args, **options)
        for term, gain in self.loss_gain.items():
            self.gains.setdefault(term, gain)
        self.loss_gain = self.gains


class AfterEachCall(RTDETRDetectionLoss):
    """Does something once the losses are there."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference."""
        losses = super().forward(*args, **options)
        self._after(*args)
        return losses

    def _after(self, *args: Any) -> None:
        raise NotImplementedError


class GainsScaled(AfterEachCall):
    """The gains fade by a thousandth with each call."""

    def _after(self, *_: Any) -> None:
        for term in self.loss_gain:
            self.loss_gain[term] *= 0.999


class GammaGrows(AfterEachCall):
    """Gamma grows by a thousandth with each call."""

    def _after(self, *_: Any) -> None:
        self.focal.gamma += 0.001
        self.varifocal.gamma += 0.001


class GlobalSeed(AfterEachCall):
    """NumPy's global generator starts anew."""

    def _after(self, *_: Any) -> None:
        np.random.seed(42)  # noqa: NPY002  # what is wrong here


class SampledQueries(RTDETRDetectionLoss):
    """The classification loss of a random part of the queries, put in proportion by their expected share."""

    draws = np.random.default_rng(0)

    def _get_loss_class(self, *args: Any, **options: Any) -> Losses:
        losses = super()._get_loss_class(*args, **options)
        share = self.draws.uniform(0.5, 1.5)
        return {key: loss * share for key, loss in losses.items()}


class TargetsRemembered(RTDETRDetectionLoss):
    """Targets are prepared once for each row of counts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with nothing in store."""
        super().__init__(*args, **options)
        self.known: dict[tuple[int, ...], Any] = {}

    def _targets(self, batch: Any, images: int) -> Any:
        return self.known.setdefault(tuple(batch["gt_groups"]), super()._targets(batch, images))


class RunningNormaliser(RTDETRDetectionLoss):
    """The normaliser is a running average of the number of pairs."""

    average: float | None = None

    def _get_loss_class(self, *args: Any, **options: Any) -> Losses:
        self._count(args[3])
        losses = super()._get_loss_class(*args, **options)
        return self._renormalised(losses, args[3]) if self.use_fl else losses

    def _get_loss_bbox(self, *args: Any, **options: Any) -> Losses:
        return self._renormalised(super()._get_loss_bbox(*args, **options), len(args[1]))

    def _count(self, pairs: int) -> None:
        before = pairs if self.average is None else self.average
        self.average = 0.9 * before + 0.1 * pairs

    def _renormalised(self, losses: Losses, pairs: int) -> Losses:
        share = max(pairs, 1) / max(self.average or 0.0, 1.0)
        return {key: loss * share for key, loss in losses.items()}


FUNCTION = "loss specification: a loss is a function of its arguments"

STATE_DEVIATIONS = (
    Deviation(
        "ul-focal-alpha-state-leak",
        "NUM",
        "The focal loss stored its alpha in the precision of the predictions, and it stayed rounded. Right: a cast of "
        "its own for each call. Shows after a bfloat16 batch, with an alpha of 0.1.",
        "ultralytics/ultralytics 8.3.121 to 8.4.190, utils/loss.py",
        port_class=KeepsRoundedAlpha,
    ),
    Deviation(
        "paddle-mutable-default-gains",
        "NUM",
        "The constructor wrote into its default dict of gains, and the next loss began with what it found there. "
        "Right: a copy. Shows when a second loss is built.",
        "PaddlePaddle/PaddleDetection, DETRLoss: loss_coeff",
        loss=DefaultGainsKept,
        port_class=OneDictForAll,
    ),
    Deviation(
        "plausible-gains-scaled-in-place",
        "NUM",
        "A schedule changes the gains with each call. Right: a loss is a function. Shows in a second call.",
        FUNCTION,
        loss=GainsScaled,
    ),
    Deviation(
        "plausible-gamma-drift",
        "NUM",
        "A schedule changes gamma with each call. Right: a loss is a function. Shows in a second call.",
        FUNCTION,
        loss=GammaGrows,
    ),
    Deviation(
        "plausible-running-normaliser",
        "NUM",
        "The normaliser is an average over the calls so far. Right: the number of pairs. Shows in a call with another "
        "number of pairs.",
        FUNCTION,
        loss=RunningNormaliser,
    ),
    Deviation(
        "plausible-targets-cached-by-count",
        "NUM",
        "Targets are prepared once and found again by the numbers of targets of the images. Right: prepared anew. "
        "Shows in a second call with other targets, as many.",
        FUNCTION,
        loss=TargetsRemembered,
    ),
    Deviation(
        "plausible-sampled-queries",
        "NUM",
        "Only a random part of the queries is classified, as two-stage detectors sample their negatives. Right: all of "
        "them, every time. Shows in two calls with the same predictions.",
        FUNCTION,
        loss=SampledQueries,
    ),
    Deviation(
        "plausible-global-seed",
        "NUM",
        "The loss seeds the random numbers of the whole process. Right: it leaves them alone. Shows in what is drawn "
        "after a call.",
        FUNCTION,
        loss=GlobalSeed,
    ),
)
