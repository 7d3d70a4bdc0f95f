"""Observations: everything that a port answers on a case, in a form in which two ports can be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float

from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.ports.reference_port import GradientsOfReference, ReferencePort
from detr_conformance.properties.case import CLASSIFICATION, LossCase
from detr_conformance.properties.default_options import (
    ALL_OTHER,
    at_defaults,
    generators_but_for_one_option,
    losses_with_layers_otherwise,
    matchers_but_for_one_option,
)
from detr_conformance.properties.global_state import set_by
from detr_conformance.properties.port import LATER, MODES, PASSING, DenoisingGroup, Matching
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.rules.generated import first_difference
from detr_conformance.properties.tolerance import budget_shares
from detr_conformance.properties.transforms import batches_between, in_bfloat16, shared_out
from detr_conformance.reference import Loss, LossSpec, Tracked, track
from detr_conformance.reference.recipe import flattened

Way = Literal["once", "in turn", "in ranks", "in steps", "in passes", "in modes", "as passed", "around", "by default"]
"""How a port is asked: case by case; several cases of one object; the images of a case shared among ranks, or among
the micro-batches of a step; for what several backward passes leave behind; in every mode; with options at their
defaults and by position; what a call changes around it; what the constructor sets where nothing is passed.
"""
MOST_RANKS = 3
STEPS = 2

LARGEST_LOGIT = 14.0
"""A probability is clipped a millionth from 1."""
NEAR = 1e-3
"""Boxes that differ by less, as logits, come from the same draw."""

USUAL = ("float32", "float64")
"""What a loss may be in without a word: of these ports choose freely."""


@dataclass(frozen=True)
class Observation:
    """What a port answered on one case.

    Attributes:
        numbers: losses, gradients and boxes by name: rounding may move them. Those of a spec come with the bounds of
            its own formulas, right or wrong.
        facts: keys, indices and the like by name: they are the same, or they are not.
    """

    numbers: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def without(self, names: Collection[str]) -> Observation:
        """The rest."""
        numbers = {name: array for name, array in self.numbers.items() if name not in names}
        return Observation(numbers, {name: fact for name, fact in self.facts.items() if name not in names})

    def differences(self, other: Observation, dtype: str) -> set[str]:
        """Names of what this port answers and the other one does not, but for rounding.

        Args:
            other: what a spec answers on the same case: its bounds decide.
            dtype: of the predictions.
        """
        unlike = {name for name, fact in self.facts.items() if other.facts.get(name) != fact}
        for name, array in self.numbers.items():
            rival = other.numbers.get(name)
            if rival is None or rival.shape != array.shape or not _are_near(array, rival, dtype):
                unlike.add(name)
        return unlike


def noisy(case: LossCase) -> set[str]:
    """Names of what has noise on a case: nobody but the reference and its mutants draws as the reference does."""
    generator = case.generator
    noise = {"denoising labels": generator.cls_noise_ratio, "denoising boxes": generator.box_noise_scale}
    return {name for name, scale in noise.items() if scale}


def drawn(case: LossCase) -> set[str]:
    """Names of what is random on a case: noise, and where there are too many targets, which of them are denoised."""
    if max(case.gt_groups, default=0) > case.generator.num_dn:
        return {"denoised targets", "denoising labels", "denoising boxes"}
    return noisy(case)


def has_infinite_boxes(case: LossCase) -> bool:
    """Whether a predicted box is infinite."""
    boxes = [case.pred_bboxes, *([] if case.denoising is None else [case.denoising.bboxes])]
    return any(np.isinf(each).any() for each in boxes)


def left_open(right: Observation | None) -> set[str]:
    """Names of numbers that infinite boxes make NaN when all is right; in another correct order they may be finite."""
    numbers = {} if right is None else right.numbers
    return {name for name, array in numbers.items() if np.isnan(_values(array)).any()}


def has_boxes_of(one: Observation, other: Observation | None) -> bool:
    """Whether every denoised box of one is among the other's, whatever their order."""
    if other is None or any("denoising boxes" not in each.numbers for each in (one, other)):
        return False
    boxes, among = _denoised_boxes(one), _denoised_boxes(other)
    near = np.isclose(boxes[:, None], among[None], rtol=NEAR, atol=NEAR).all(axis=-1)
    return len(boxes) > 0 and bool(near.any(axis=1).all())


def _denoised_boxes(observed: Observation) -> Float[np.ndarray, "slots 4"]:
    """Boxes of the slots that are not padding: padding has no label."""
    labels, boxes = (observed.numbers[f"denoising {name}"] for name in ("labels", "boxes"))
    return _values(boxes)[labels.any(axis=-1)]


Question = Literal["losses", "denoising queries", "matching", "gradients"]
QUESTIONS: tuple[Question, ...] = ("losses", "denoising queries", "matching", "gradients")
"""What a port is asked once, the quickest to answer and to tell mutants apart first."""
GENERATOR = "denoising.generator"
"""The decisions on which denoising queries depend, and nothing else that is asked once."""


def is_answered_by(question: Question, path: str) -> bool:
    """Whether a decision, given as a path into a spec, can have to do with the answer to a question."""
    return path.startswith(GENERATOR) == (question == "denoising queries")


WAYS_OF: dict[str, tuple[Way, ...]] = {
    GENERATOR: ("once", "as passed"),
    "accumulated": ("in passes",),
    "built": ("as passed",),
    "in_mode": ("in modes",),
    "matcher.built": ("as passed",),
    "over_ranks": ("in ranks",),
    "over_steps": ("in steps",),
    "recipe": ("by default",),
}
"""Decisions, by how their paths begin, that show in these ways of asking alone."""


def shows_in(way: Way, path: str) -> bool:
    """Whether a decision, given as a path into a spec, can show when a port is asked in a way."""
    return all(way in ways for begin, ways in WAYS_OF.items() if path.startswith(begin))


class Answers:
    """What a port answers on a case, question by question; it is asked when the answer is looked at.

    Args:
        judged: the port.
        case: what it is asked about.
    """

    def __init__(self, judged: PortUnderTest, case: LossCase) -> None:
        """Keep both."""
        self.judged = judged
        self.case = case

    def to(self, question: Question) -> Observation:
        """The answer to a question; empty where the port does not declare it.

        Raises:
            PortError: it gives no answer.
        """
        if question == "losses":
            return Observation(self._losses(), self._facts_of_losses())
        if question == "gradients":
            return Observation(self._gradients() if _has_gradients(self.judged, self.case) else {}, {})
        return _matching(self.judged, self.case) if question == "matching" else _group(self.judged, self.case)

    @cached_property
    def _returned(self) -> ReturnedLosses:
        return self.judged.loss(self.case)

    def _losses(self) -> dict[str, np.ndarray]:
        return dict(self._returned.values)

    def _facts_of_losses(self) -> dict[str, Any]:
        return {
            **_keys_of([self._returned]),
            "odd losses": _odd_losses(self._returned),
            "changed inputs": tuple(self._returned.result.mutated),
        }

    def _gradients(self) -> dict[str, np.ndarray]:
        returned = self._returned
        named = ((key, name) for key in _finite(returned) for name in returned.inputs())
        return {gradient_name(key, name): returned.gradient_of_parts(key, name) for key, name in named}


class AnswersOfSpec(Answers):
    """What a port of a spec, such as a mutant, would answer to the same questions, with the bounds of its own errors.

    Args:
        spec: the spec.
        judged: whose declarations are asked about.
        case: what is asked about.
    """

    def __init__(self, spec: LossSpec, judged: PortUnderTest, case: LossCase) -> None:
        super().__init__(PortUnderTest(_Declaring(spec, judged), judged.spec), case)

    def _losses(self) -> dict[str, np.ndarray]:
        return {key: _with_bound(self._returned, key) for key in self._returned.values}

    def _gradients(self) -> dict[str, np.ndarray]:
        returned = self._returned
        found = {key: _gradients_with_bounds(returned, _parts(returned, key)) for key in _finite(returned)}
        return {gradient_name(key, name): grad for key, grads in found.items() for name, grad in grads.items()}


def whole(parts: Iterable[Observation]) -> Observation:
    """All answers in one."""
    numbers, facts = dict[str, np.ndarray](), dict[str, Any]()
    for part in parts:
        numbers |= part.numbers
        facts |= part.facts
    return Observation(numbers, facts)


def _matching(judged: PortUnderTest, case: LossCase) -> Observation:
    facts: dict[str, Any] = {}
    if judged.can("match"):
        facts["matching"] = [_pairs(layer) for layer in judged.match(case)]
    if judged.can("denoising_indices") and case.denoising is not None:
        facts["denoising pairs"] = _pairs(judged.denoising_indices(case))
    return Observation({}, facts)


def _parts(returned: ReturnedLosses, key: str) -> list[Loss]:
    """The losses of the reference that a canonical key adds up."""
    losses = cast("GradientsOfReference", returned.result.gradients).losses
    return [loss for own, loss in losses.items() if returned.canonical(own) == key]


def _gradients_with_bounds(returned: ReturnedLosses, parts: Sequence[Loss]) -> dict[str, Tracked]:
    """Of the sum of these losses with respect to every input, zeros where there is none."""
    found = {}
    for name, array in returned.inputs().items():
        grads = [loss.gradients[name] for loss in parts if name in loss.gradients]
        found[name] = sum(grads[1:], start=grads[0]) if grads else track(np.zeros(array.shape))
    return found


def _with_bound(returned: ReturnedLosses, key: str) -> Tracked:
    return Tracked(returned.values[key], sum(loss.magnitude for loss in _parts(returned, key)))


def observe_otherwise(judged: PortUnderTest, case: LossCase, way: Way) -> Observation:
    """Ask a port for its losses in another way than once, and for what this way alone shows.

    Raises:
        PortError: it gives no answer.
    """
    if way == "in passes":
        return _after_passes(judged.accumulated_gradients(case, _passes(judged, case)))
    calls = _calls(judged, judged, case, way)
    numbers = {f"{key} of call {n}": one.values[key] for n, one in enumerate(calls) for key in one.values}
    return Observation(numbers, _keys_of(calls) | _facts(judged, case, way))


def observe_spec_otherwise(spec: LossSpec, judged: PortUnderTest, case: LossCase, way: Way) -> Observation:
    """The same of a port of a spec, with bounds.

    Raises:
        PortError: it gives no answer.
    """
    of_spec = PortUnderTest(_Declaring(spec, judged), judged.spec)
    if way == "in passes":
        returned = of_spec.loss(case)
        losses = cast("GradientsOfReference", returned.result.gradients).losses
        grads = {own: _gradients_with_bounds(returned, [loss]) for own, loss in losses.items()}
        # By the port's keys, in its order: a mistake may go by how a loss is called, or by which is the first.
        names = {own: str(returned.canonical(own)) for own in grads}
        wanted = _passes(judged, case)
        passes = [{own: each[name] for own, name in names.items() if name in each} for each in wanted]
        return _after_passes(spec.accumulated(grads, passes))
    calls = _calls(of_spec, judged, case, way)
    numbers = {f"{key} of call {n}": _with_bound(one, key) for n, one in enumerate(calls) for key in one.values}
    return Observation(numbers, _keys_of(calls) | _facts(of_spec, case, way))


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
            [_pairs(layer) for layer in got] for got in (asked.match(each), asked.match_built(each, passing))
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


def _keys_of(calls: Sequence[ReturnedLosses]) -> dict[str, Any]:
    """Which losses came, and of which a part is missing."""
    return {
        "keys": [sorted(returned.values) for returned in calls],
        "parts of losses that are absent": [
            sorted(str(returned.canonical(key)) for key in returned.absent) for returned in calls
        ],
    }


def _in_turn(judged: PortUnderTest, case: LossCase) -> list[LossCase]:
    """Batches between two calls with one, first of all one in half precision, with an alpha that it cannot hold."""
    case = case.change(alpha=0.1) if judged.may_be_asked(alpha=0.1) else case
    half = [in_bfloat16(case)] if "bfloat16" in judged.port.dtypes else []
    return [*half, case, *batches_between(case, judged.can("denoising_subset")), case]


def _finite(returned: ReturnedLosses) -> list[str]:
    """Losses whose gradients can be compared: where one is infinite or NaN they are what each library makes of it."""
    return [key for key, value in returned.values.items() if np.isfinite(value)]


def _has_gradients(judged: PortUnderTest, case: LossCase) -> bool:
    """Whether gradients can be compared: a NaN among the predictions spreads as each library pleases."""
    return judged.can("gradients") and all(np.isfinite(array).all() for array in case.float_arrays().values())


class _Declaring(ReferencePort):
    """A port of a spec that declares what another port declares, and knows how far off its losses may be."""

    bounded = True

    def __init__(self, spec: LossSpec, other: PortUnderTest) -> None:
        super().__init__(spec, profile=other.spec)
        self.capabilities = other.port.capabilities


def _group(judged: PortUnderTest, case: LossCase) -> Observation:
    """Denoising queries: where everything is, and what it is."""
    if not judged.can("denoising_group"):
        return Observation({}, {})
    group = judged.denoising_group(case)
    if group is None:
        return Observation({}, {"denoising queries": None})
    facts: dict[str, Any] = {"denoising queries": (group.num_group, tuple(group.num_split))}
    facts["denoising mask"] = group.blocked.tolist()
    if case.generator.box_noise_scale:  # without it only the choice of targets is left to chance, and may recur
        facts["the same noise again"] = _repeats(judged, case, group, case.generator.seed)
        facts["the same noise from another seed"] = _repeats(judged, case, group, case.generator.seed + 1)
    facts["denoising slots"] = _lists(group.pos_idx)
    if group.gt_idx is not None:  # older generators do not say
        facts["denoised targets"] = _lists(group.gt_idx)
    if judged.can("embedding_gradient"):
        facts["embedding trained"] = _trained(group)
    return Observation({"denoising labels": group.labels, "denoising boxes": _as_logits(group.boxes)}, facts)


def _trained(group: DenoisingGroup) -> list[float] | None:
    """The gradients of the embedding as shares of what they should be, whatever labels were drawn."""
    if group.embedding_gradient is None:
        return None
    queries = group.labels.sum(axis=(0, 1))
    return sorted(set((group.embedding_gradient[queries > 0] / queries[queries > 0, None]).ravel().tolist()))


def _as_logits(boxes: Float[np.ndarray, "images denoising 4"]) -> Float[Tracked, "images denoising 4"]:
    """With the rounding of a logit x = log(p / (1 - p)): that of p moves it by 1 / (1 - p) = 1 + exp(x) roundings."""
    return Tracked(boxes, 1.0 + np.abs(boxes) + np.exp(np.minimum(boxes, LARGEST_LOGIT)))


def _repeats(judged: PortUnderTest, case: LossCase, group: DenoisingGroup, seed: int) -> bool:
    """Whether a seed gives the boxes that the case's own gave."""
    other = judged.denoising_group(case.change(generator=replace(case.generator, seed=seed)))
    return other is not None and np.array_equal(group.boxes, other.boxes)


def _odd_losses(returned: ReturnedLosses) -> list[tuple[str, tuple[int, ...], str]]:
    """Losses under keys without a meaning, of another shape than (), or of less than single precision."""
    losses, dtypes = returned.result.losses, returned.result.dtypes
    unusual = {key: dtype for key, dtype in dtypes.items() if dtype not in USUAL}
    every = [(key, np.shape(loss), unusual.get(key, "")) for key, loss in losses.items()]
    return sorted(
        (key, shape, dtype) for key, shape, dtype in every if returned.canonical(key) is None or shape or dtype
    )


def _pairs(images: Iterable[Matching]) -> list[list[tuple[int, int]]]:
    return [sorted(zip(map(int, queries), map(int, targets), strict=True)) for queries, targets in images]


def _lists(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    return [np.asarray(each).tolist() for each in arrays]


def _are_near(array: np.ndarray, rival: np.ndarray, dtype: str) -> bool:
    """Whether a number is within the budget of the rival's own formula, or within a few roundings of it.

    A wrong step that leaves the tape has no bound of its own; it rounds like everything else.
    """
    array, values = _values(array), _values(rival)
    if np.array_equal(array, values, equal_nan=True):
        return True
    if (np.isfinite(array) != np.isfinite(values)).any():  # also where the bound is infinite
        return False
    bound = rival.magnitude if isinstance(rival, Tracked) else np.zeros(rival.shape)
    both = np.maximum(np.nan_to_num(np.abs(values), posinf=0.0), bound)
    return bool((budget_shares(array, Tracked(values, 2.0 * both), dtype) <= 1.0).all())


def _values(array: np.ndarray | Tracked) -> np.ndarray:
    return array.values if isinstance(array, Tracked) else array
