"""What a port answers when it is asked in other ways than once: in turn, in ranks, in modes, with other arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, cast

import numpy as np

from detr_conformance.diagnosis.answers import GENERATOR, finite_losses, has_gradients, keys_of, pairs_of_images
from detr_conformance.diagnosis.observation import Observation
from detr_conformance.diagnosis.port_of_spec import PortOfSpec, gradients_with_bounds, parts_of, with_bound
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.ports.reference_port import GradientsOfReference
from detr_conformance.properties.case import CLASSIFICATION, LossCase
from detr_conformance.properties.default_options import (
    ALL_OTHER,
    at_defaults,
    generators_but_for_one_option,
    losses_with_layers_otherwise,
    matchers_but_for_one_option,
)
from detr_conformance.properties.global_state import set_by
from detr_conformance.properties.port import FROZEN, LATER, MODES, PASSING, SITUATIONS
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.rules.generated import first_difference
from detr_conformance.properties.transforms import batches_between, in_bfloat16, shared_out
from detr_conformance.reference import LossSpec
from detr_conformance.reference.recipe import flattened

Way = Literal[
    "once",
    "in turn",
    "in ranks",
    "in steps",
    "in passes",
    "in modes",
    "in situations",
    "as passed",
    "around",
    "by default",
]
"""How a port is asked: case by case; several cases of one object; the images of a case shared among ranks, or among
the micro-batches of a step; for what several backward passes leave behind; in every mode; in every situation, also
for gradients; with options at their defaults and by position; what a call changes around it; what the constructor sets
where nothing is passed.
"""
MOST_RANKS = 3
STEPS = 2
WAYS_OF: dict[str, tuple[Way, ...]] = {
    GENERATOR: ("once", "as passed"),
    "accumulated": ("in passes",),
    "built": ("as passed",),
    "in_mode": ("in modes", "in situations"),
    "matcher.built": ("as passed",),
    "over_ranks": ("in ranks",),
    "over_steps": ("in steps",),
    "recipe": ("by default",),
}
"""Decisions, by how their paths begin, that show in these ways of asking alone."""


def shows_in(way: Way, path: str) -> bool:
    """Whether a decision, given as a path into a spec, can show when a port is asked in a way."""
    return all(way in ways for begin, ways in WAYS_OF.items() if path.startswith(begin))


def observe_otherwise(judged: PortUnderTest, case: LossCase, way: Way) -> Observation:
    """Ask a port for its losses in another way than once, and for what this way alone shows.

    Raises:
        PortError: it gives no answer.
    """
    if way == "in passes":
        return _after_passes(judged.accumulated_gradients(case, _passes(judged, case)))
    calls = _calls(judged, judged, case, way)
    numbers = {f"{key} of call {n}": one.values[key] for n, one in enumerate(calls) for key in one.values}
    if way == "in situations" and has_gradients(judged, case):
        numbers |= _gradients(calls, lambda one, key: {name: one.gradient_of_parts(key, name) for name in one.inputs()})
    return Observation(numbers, keys_of(calls) | _facts(judged, case, way))


def observe_spec_otherwise(spec: LossSpec, judged: PortUnderTest, case: LossCase, way: Way) -> Observation:
    """The same of a port of a spec, with bounds.

    Raises:
        PortError: it gives no answer.
    """
    of_spec = PortUnderTest(PortOfSpec(spec, judged), judged.spec)
    if way == "in passes":
        returned = of_spec.loss(case)
        losses = cast("GradientsOfReference", returned.result.gradients).losses
        grads = {own: gradients_with_bounds(returned, [loss]) for own, loss in losses.items()}
        # By the port's keys, in its order: a mistake may go by how a loss is called, or by which is the first.
        names = {own: str(returned.canonical(own)) for own in grads}
        wanted = _passes(judged, case)
        passes = [{own: each[name] for own, name in names.items() if name in each} for each in wanted]
        return _after_passes(spec.accumulated(grads, passes))
    calls = _calls(of_spec, judged, case, way)
    numbers: dict[str, np.ndarray] = {}
    numbers |= {f"{key} of call {n}": with_bound(one, key) for n, one in enumerate(calls) for key in one.values}
    if way == "in situations" and has_gradients(judged, case):
        numbers |= _gradients(calls, lambda one, key: gradients_with_bounds(one, parts_of(one, key)))
    return Observation(numbers, keys_of(calls) | _facts(of_spec, case, way))


def _gradients(
    calls: Sequence[ReturnedLosses], take: Callable[[ReturnedLosses, str], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Of the losses in each situation by what asks for gradients there."""
    return {
        f"{gradient_name(key, name)} of call {n}": grad
        for n, (situation, one) in enumerate(zip(SITUATIONS, calls, strict=True))
        for key in finite_losses(one)
        for name, grad in take(one, key).items()
        if name not in FROZEN.get(situation, ())
    }


def _passes(judged: PortUnderTest, case: LossCase) -> list[dict[str, float]]:
    """Weights that differ, of the losses that the port has; then of all of them once more."""
    keys = sorted(judged.loss(case).values)
    return [{key: 0.5 + place for place, key in enumerate(keys)}, dict.fromkeys(keys, 3.0)]


def _after_passes(found: Sequence[Mapping[str, np.ndarray]]) -> Observation:
    return Observation(
        {f"{name} after pass {n}": grad for n, each in enumerate(found) for name, grad in each.items()}, {}
    )


def _calls(asked: PortUnderTest, judged: PortUnderTest, case: LossCase, way: Way) -> list[ReturnedLosses]:
    """The answers of the port that is asked, to what the port that is judged can be asked for."""
    if way == "in ranks":
        return asked.losses_of_ranks(shared_out(case, min(case.images, MOST_RANKS)))
    if way == "in steps":
        return asked.losses_of_steps(shared_out(case, STEPS))
    if way == "in modes":
        return [asked.loss_in_mode(each, mode) for mode, each in _in_modes(judged, case)]
    if way == "in situations":
        return [asked.loss_in_situation(case, situation) for situation in SITUATIONS]
    if way == "as passed":
        return [asked.loss_built(each, passing) for each in _as_passed(judged, case) for passing in (*PASSING, LATER)]
    return asked.losses_in_turn(_in_turn(judged, case)) if way == "in turn" else [asked.loss(case)]


def _facts(asked: PortUnderTest, case: LossCase, way: Way) -> dict[str, Any]:
    """What a way of asking shows beside the losses."""
    if way == "around":
        return {"set around it": set_by(lambda: asked.loss(case))}
    if way == "as passed":
        return _matchings_as_passed(asked, case) | _groups_as_passed(asked, case)
    return _defaults(asked, case) if way == "by default" else {}


def _in_turn(judged: PortUnderTest, case: LossCase) -> list[LossCase]:
    """Batches between two calls with one, first of all one in half precision, with an alpha that it cannot hold."""
    case = case.change(alpha=0.1) if judged.may_be_asked(alpha=0.1) else case
    half = [in_bfloat16(case)] if "bfloat16" in judged.port.dtypes else []
    return [*half, case, *batches_between(case, judged.can("denoising_subset")), case]


def _in_modes(judged: PortUnderTest, case: LossCase) -> Iterator[tuple[str, LossCase]]:
    """Modes, each with what is asked in it: an evaluation has one group of queries, and none for denoising."""
    for mode in MODES:
        if mode != "evaluation":
            yield mode, case
        elif not has_query_groups(judged.spec):
            yield mode, case.change(denoising=None)


def _as_passed(judged: PortUnderTest, case: LossCase) -> list[LossCase]:
    """Options at their defaults, but for the classification loss; others; layers that share a matching."""
    plain = at_defaults(case)
    return [plain, plain.change(**ALL_OTHER), *losses_with_layers_otherwise(judged, plain, shared=0)]


def _matchings_as_passed(asked: PortUnderTest, case: LossCase) -> dict[str, Any]:
    """The pairs of matchers that are built so, where they are not those by keyword: ties are broken as one likes."""
    if not asked.can("match", "matcher_options", "matcher_constructor"):
        return {}
    built = product(enumerate(matchers_but_for_one_option(case)), PASSING)
    found = {}
    for (number, each), passing in built:
        usual, pairs = (
            [pairs_of_images(layer) for layer in got] for got in (asked.match(each), asked.match_built(each, passing))
        )
        found[f"matching of matcher {number} by {passing}"] = None if pairs == usual else pairs
    return found


def _groups_as_passed(asked: PortUnderTest, case: LossCase) -> dict[str, Any]:
    """Whether a generator that is called so makes what it does by keyword."""
    if not asked.can("denoising_group", "generator_arguments"):
        return {}
    called = product(enumerate(generators_but_for_one_option(case)), PASSING)
    return {
        f"other denoising queries {number} by {passing}": first_difference(
            asked.denoising_group(each), asked.denoising_group_called(each, passing)
        )
        for (number, each), passing in called
    }


def _defaults(asked: PortUnderTest, case: LossCase) -> dict[str, Any]:
    """What the constructor sets with each classification loss that has a recipe."""
    kinds = sorted(asked.spec.recipe.keys() & asked.port.capabilities)
    options = {kind: flattened(asked.defaults(case.change(**CLASSIFICATION[kind]))) for kind in kinds}
    return {f"{name} with the {kind} loss": value for kind, own in options.items() for name, value in own.items()}
