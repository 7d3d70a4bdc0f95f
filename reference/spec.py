"""LossSpec: one member of the DETR family, as a record of the decisions that it takes.

Every implementation of this loss is the same story (`loss.py`), with a few decisions taken differently. A spec says
what each of them is. Its fields are plain functions, numbers and small records; a member of the family replaces some
of them (`family.py`), and so can you.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from detr_conformance.reference.backward import GradientsByKey, Weights, accumulated
from detr_conformance.reference.boxes import Guard
from detr_conformance.reference.classification import ClassTerm
from detr_conformance.reference.denoising import DenoisingPlan
from detr_conformance.reference.keys import KeyTable
from detr_conformance.reference.layers import LayerPlan
from detr_conformance.reference.masks import PointCounts
from detr_conformance.reference.matcher import Matcher, Matching
from detr_conformance.reference.normaliser import Normaliser, Tally
from detr_conformance.reference.options import LossConfig, as_meant
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.ranks import Together, all_steps, of_own_rank
from detr_conformance.reference.recipe import Recipe
from detr_conformance.reference.terms import Term


class Difference(NamedTuple):
    """How a field differs from that of the spec that this one was made from.

    Attributes:
        sentence: what is decided.
        link: code that does it, or the paper and its section.
    """

    sentence: str
    link: str


class SideEffects:
    """What a loss object does beside computing its losses: nothing, in every convention.

    A loss that keeps something from call to call, writes into its arguments or changes the process has others.
    """

    def before(self, spec: LossSpec, config: LossConfig, inputs: Any) -> tuple[LossSpec, LossConfig, Any]:
        """Decisions, options and inputs of the next call, as they are made of those that were given."""
        return spec, config, inputs

    def after(self, inputs: Any) -> None:
        """What is done once the losses are there."""


def alike(spec: LossSpec, mode: str) -> LossSpec:
    """In training, in evaluation, with and without gradients."""
    return spec


def in_double(key: str, value: np.ndarray, dtype: str) -> tuple[np.ndarray, str]:
    """A loss of shape () in float64."""
    return value, "float64"


@dataclass(frozen=True, repr=False)
class LossSpec:
    """The decisions that make a loss of the family.

    All members of the family decide `labels`, `class_total`, `matched_boxes`, `box_terms`, `gain`, `layer`,
    `over_steps`, `returned`, `accumulated`, `in_mode`, `built` and `side_effects` alike: they are fields so that a
    mistake in them can be described. No loss depends on `columns`, `clear`, `recipe` and `undefined`: those who judge a
    port read them.

    Attributes:
        name: how it is selected and reported.
        options: what is made of the constructor's options before anything reads them; a loss with a hard-coded gamma
            sets it here.
        choose_class_term: which of `class_terms` a layer uses, from the options and its number of pairs.
        class_terms: the classification losses that there are, by name.
        columns: number of columns of the logits, from the number of classes.
        target_boxes: the boxes of targets as losses and costs read them, from those that are given.
        labels: the class of each query, from pairs, targets, images, queries and classes; background is one beyond the
            last class.
        score: the target score of each pair, from predicted and target boxes and a guard.
        class_total: the sum of the terms of the classification loss over images, queries and classes, from the terms,
            whether each query is matched, and the options.
        matched_boxes: the predicted boxes of all pairs, from boxes, images and queries.
        box_terms: the box losses of each pair by name, from predicted and target boxes and a guard.
        guard: what keeps the areas of score and box losses from 0.
        normaliser: what the sum of each term over a layer is divided by; classification losses by their own names.
        gain: a normalised loss times its weight, from the loss, its term and the options.
        layer: how these make the losses of one layer.
        matcher: who is matched with whom, inside one layer.
        query_groups: into how many groups, each matched on its own, the ordinary queries fall.
        pairing: which layers use which matching.
        clear: whether the matchings of all layers leave no choice to the pairing.
        layers: main and auxiliary layers.
        denoising: denoising queries.
        keys: names of the losses.
        extra_terms: losses beside those of classes and boxes, by name.
        mask_points: how many points training draws to compare masks at; None where it draws none.
        over_ranks: what a term is divided by in data-parallel training, from its name, its normaliser and the counts.
        over_steps: likewise where micro-batches of one optimiser step have a common normaliser.
        recipe: for each classification loss the options that published configurations train with.
        returned: array and dtype of a loss as it is returned, from key, value and the dtype of the predictions.
        accumulated: what several backward passes leave in the gradients of inputs, from the gradients of the losses and
            their weights in each pass.
        in_mode: what becomes of the spec in a mode of calling it, such as `evaluation`, or in a situation of a training
            run, such as `validated`.
        built: the options that a loss is built with, from those that are meant and how they are passed, such as
            `positions`.
        undefined: inputs and capabilities that the convention does not define, each with the reason.
        side_effects: makes what a new loss object does beside computing losses.
        differences: for each field that differs from the base spec's, what is decided and where.
    """

    name: str
    options: Callable[[LossConfig], LossConfig]
    choose_class_term: Callable[[LossConfig, int], str]
    class_terms: Mapping[str, ClassTerm]
    columns: Callable[[int], int]
    target_boxes: Callable[[Any], Any]
    labels: Callable[..., Any]
    score: Callable[..., Any]
    class_total: Callable[..., Any]
    matched_boxes: Callable[..., Any]
    box_terms: Mapping[str, Callable[..., Any]]
    guard: Guard
    normaliser: Mapping[str, Normaliser]
    gain: Callable[[Any, str, LossConfig], Any]
    layer: Callable[..., dict[str, Any]]
    matcher: Matcher
    query_groups: Callable[[LossConfig], int]
    pairing: Callable[..., Sequence[Pairs]]
    clear: Callable[[Sequence[Sequence[Matching]]], bool]
    layers: LayerPlan
    denoising: DenoisingPlan
    keys: KeyTable
    extra_terms: Mapping[str, Term] = field(default_factory=dict)
    mask_points: PointCounts | None = None
    over_ranks: Together = of_own_rank
    over_steps: Together = all_steps
    recipe: Recipe = field(default_factory=dict)
    returned: Callable[[str, np.ndarray, str], tuple[np.ndarray, str]] = in_double
    accumulated: Callable[[GradientsByKey, Sequence[Weights]], list[dict[str, Any]]] = accumulated
    in_mode: Callable[[LossSpec, str], LossSpec] = alike
    built: Callable[[LossConfig, str], LossConfig] = as_meant
    undefined: Mapping[str, str] = field(default_factory=dict)
    side_effects: Callable[[], SideEffects] = SideEffects
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def class_term(self, config: LossConfig) -> ClassTerm:
        """The classification loss of a batch with targets."""
        config = self.options(config)
        return self.class_terms[self.choose_class_term(config, 1)]

    def terms_of(self, further: Iterable[str]) -> dict[str, Term]:
        """The extra terms of a call that comes with these further predictions, such as `masks`."""
        given = set(further)
        return {name: term for name, term in self.extra_terms.items() if given.issuperset(term.inputs)}

    def normaliser_of(self, term: str) -> Normaliser:
        """What a term is divided by; a classification loss goes by its own name."""
        return self.extra_terms[term].normaliser if term in self.extra_terms else self.normaliser[term]

    def divisor(self, term: str, tally: Tally) -> int | float:
        """What a term is divided by, a classification loss by its own name; on a rank as on a single device."""
        normaliser = self.normaliser_of(term)
        if tally.ranks:
            return self.over_ranks(term, normaliser, tally)
        return self.over_steps(term, normaliser, tally) if tally.steps else normaliser(tally)

    def __repr__(self) -> str:
        """Its name: all that it holds would fill pages."""
        return f"LossSpec({self.name!r})"

    def __hash__(self) -> int:
        """By identity: a spec is made once, and looked up often."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """By identity, as the hash."""
        return self is other


class NoSuchFieldError(KeyError):
    """A record has no field of this name."""


def replace_in(record: Any, path: str, value: Any) -> Any:  # a spec or one of its parts
    """The record with another value at a path such as `class_terms.focal.weight`.

    Raises:
        NoSuchFieldError: there is none at this path.
    """
    name, _, rest = path.partition(".")
    held = _child(record, name)
    inner = replace_in(held, rest, value) if rest else value
    return {**record, name: inner} if isinstance(record, Mapping) else replace(record, **{name: inner})


def wrap_in(record: Any, path: str, change: Callable[[Any], Any]) -> Any:  # as above
    """The record with the value at a path changed by a function; NoSuchFieldError likewise."""
    return replace_in(record, path, change(value_in(record, path)))


def value_in(record: Any, path: str) -> Any:  # as above
    """The value at a path; NoSuchFieldError likewise."""
    for name in path.split("."):
        record = _child(record, name)
    return record


def _child(record: Any, name: str) -> Any:
    held = children(record)
    if name not in held:
        expected = f"one of {', '.join(held)}" if held else "the path to end there"
        raise NoSuchFieldError(f"{type(record).__name__} has no {name!r}, expected {expected}")
    return held[name]


def children(record: Any) -> Mapping[str, Any]:  # as above
    """What a record holds, by name; empty for a single value, such as a function or a table of keys."""
    if isinstance(record, Mapping):
        return record
    if is_dataclass(record) and not isinstance(record, (type, KeyTable)) and not callable(record):
        return {each.name: getattr(record, each.name) for each in fields(record)}
    return {}


DESCRIBING = frozenset({"name", "differences"})
"""Fields of a spec that decide nothing."""


def paths(record: Any, before: str = "") -> list[str]:  # as above
    """Every path to a single value."""
    found = []
    for name, value in children(record).items():
        inner = [] if name in ("undefined", *DESCRIBING) else paths(value, f"{before}{name}.")
        found += inner or [f"{before}{name}"]
    return found


def differing(one: Any, other: Any) -> list[str]:  # as above
    """Paths at which two records decide otherwise; where only one of them has a record, the path to that record."""
    every = dict.fromkeys([*paths(one), *paths(other)])
    found = [path for path in every if path not in DESCRIBING and not _same(one, other, path)]
    return [path for path in found if not any(path.startswith(f"{each}.") for each in found)]


def _same(one: Any, other: Any, path: str) -> bool:
    try:
        return bool(value_in(one, path) == value_in(other, path))
    except NoSuchFieldError:
        return False
