"""Cases whose options are at the defaults of the class API, all of them or all but one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from detr_conformance.properties.case import GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.port_under_test import PortUnderTest

MATCHER = MatcherConfig(cost_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0})
"""What a matcher has to which nothing is passed; the one inside a loss has another gain of classes."""
OTHER_MATCHERS: tuple[dict[str, Any], ...] = (
    {"cost_gain": {"class": 3.0, "bbox": 0.5, "giou": 4.0}},
    {"use_fl": False},
    {"alpha": 0.75},
    {"gamma": 1.0},
)
"""Changes of one option each."""
ALL_OTHER: dict[str, Any] = {"loss_gain": {"class": 0.5, "bbox": 2.0, "giou": 4.0}, "gamma": 3.0, "alpha": 0.75}
OTHER_LOSSES = tuple({name: value} for name, value in ALL_OTHER.items())
OTHER_GENERATORS: tuple[dict[str, Any], ...] = (
    {"num_dn": 12},
    {"cls_noise_ratio": 1.0},
    {"box_noise_scale": 0.25},
    {"training": False},
)


def at_defaults(case: LossCase) -> LossCase:
    """The case with a loss of nothing but its number of classes and its classification loss."""
    chosen = case.config
    selected = {name: getattr(chosen, name) for name in ("nc", "use_fl", "use_vfl", "class_loss")}
    return case.change(config=LossConfig(**selected, query_groups=chosen.query_groups))


def losses_but_for_one_option(port: PortUnderTest, case: LossCase) -> Iterator[LossCase]:
    """The case at the defaults, but with another classification loss, or with another option changed."""
    plain = at_defaults(case)
    yield from (each for each in port.each_classification(plain) if each.config != plain.config)
    yield from (plain.change(**change) for change in OTHER_LOSSES)
    yield from losses_with_layers_otherwise(port, plain, shared=0)


def losses_with_layers_otherwise(port: PortUnderTest, case: LossCase, shared: int) -> Iterator[LossCase]:
    """The case without auxiliary losses, and with the matching of one auxiliary layer for all of them."""
    if port.can("no_aux"):
        yield case.change(aux_loss=False)
    if port.can("uni_match"):
        yield case.change(use_uni_match=True, uni_match_ind=shared)


def matchers_but_for_one_option(case: LossCase) -> Iterator[LossCase]:
    """The case with a matcher at the defaults, and with every option of it changed."""
    for change in ({}, *OTHER_MATCHERS):
        yield case.change(matcher=replace(MATCHER, **change))


def generators_but_for_one_option(case: LossCase) -> Iterator[LossCase]:
    """The case with a generator at the defaults, except that it makes anything, and with every option of it changed."""
    plain = GeneratorConfig(seed=case.generator.seed)
    for change in ({}, *OTHER_GENERATORS):
        yield case.change(generator=replace(plain, **change))
