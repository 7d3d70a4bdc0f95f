"""Mutants of D-FINE's and DEIM's pairing by the vote of all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig, LossSpec, MatcherConfig, replace_in
from detr_conformance.reference.family import DEIM, DFINE
from detr_conformance.reference.matcher import Matching
from detr_conformance.reference.normaliser import Normaliser, Tally, per_target
from detr_conformance.reference.pairing import Match, Pairs, own_per_layer

SECTION = "Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py: indices of the union"

Pairing = Callable[[Match, int, LossConfig], Sequence[Pairs]]

union_mutant = partial(Mutant, home=DFINE)


def by_boxes_alone(right: Callable[[LossConfig], MatcherConfig], config: LossConfig) -> MatcherConfig:
    """A matcher to which classes cost nothing."""
    options = right(config)
    return replace(options, cost_gain={**options.cost_gain, "class": 0.0})


def for_classes_too(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The classes answer to the vote as well."""
    return [Pairs.same(pairs.boxes) for pairs in right(match, layers, config)]


def for_auxiliary_alone(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The boxes of the main layer keep its own matching."""
    *auxiliary, main = right(match, layers, config)
    return [*auxiliary, Pairs.same(main.classes)]


def without_encoder(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The encoder, which is the first layer, neither votes nor answers to the vote."""
    return [Pairs.same(match(0)), *right(lambda layer: match(layer + 1), layers - 1, config)]


def without_main(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The main layer does not vote."""
    auxiliary = right(match, layers - 1, config)
    return [*auxiliary, Pairs(match(layers - 1), auxiliary[0].boxes)]


def first_vote(_right: Pairing, match: Match, layers: int, _config: LossConfig) -> Sequence[Pairs]:
    """A query keeps the target of the first layer that matches it."""
    own = [match(layer) for layer in range(layers)]
    return [Pairs(each, [_first(of_image) for of_image in zip(*own, strict=True)]) for each in own]


def last_vote(_right: Pairing, match: Match, layers: int, _config: LossConfig) -> Sequence[Pairs]:
    """A query keeps the target of the last layer that matches it."""
    own = [match(layer) for layer in range(layers)]
    return [Pairs(each, [_first(of_image[::-1]) for of_image in zip(*own, strict=True)]) for each in own]


def _first(matchings: Sequence[Matching]) -> Matching:
    """For each query the target of the first of these matchings that has it."""
    found: dict[int, int] = {}
    for queries, chosen in matchings:
        for query, target in zip(queries.tolist(), chosen.tolist(), strict=True):
            found.setdefault(query, target)
    kept = sorted(found)
    return np.array(kept, dtype=np.int64), np.array([found[query] for query in kept], dtype=np.int64)


def main_matching(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The boxes of every layer have the matching of the main one."""
    return [Pairs(pairs.classes, match(layers - 1)) for pairs in right(match, layers, config)]


def one_query_for_each_target(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """Of several queries of the union that have the same target only the first stays."""
    return [pairs._replace(boxes=[_distinct(each) for each in pairs.boxes]) for pairs in right(match, layers, config)]


def _distinct(matching: Matching) -> Matching:
    queries, chosen = matching
    _, first = np.unique(chosen, return_index=True)
    kept = np.sort(first)
    return queries[kept], chosen[kept]


def boxes_over(normaliser: Normaliser) -> Change:
    """The box losses divided by something else."""

    def change(spec: LossSpec) -> LossSpec:
        return replace_in(replace_in(spec, "normaliser.bbox", normaliser), "normaliser.giou", normaliser)

    return change


def pairs_of_one_layer(tally: Tally) -> int | float:
    """As many pairs as each layer's own matching has, at least 1."""
    own = tally.pairs if tally.is_denoising else tuple(min(tally.queries, count) for count in tally.targets)
    return max(sum(own), 1)


def largest_image(tally: Tally) -> int | float:
    """The targets of the image that has most."""
    return max([1, *tally.targets])


UNION_MUTANTS: tuple[Mutant, ...] = (
    union_mutant(
        "hf-dfine-without-union",
        "REG",
        "Boxes answered to the matching of their own layer. Right: to the vote of all layers. Shows where two layers "
        "match otherwise.",
        "huggingface/transformers 5.23.0, loss/loss_d_fine.py",
        lambda spec: replace_in(spec, "pairing", own_per_layer),
    ),
    union_mutant(
        "plausible-union-for-classes-too",
        "CLASS",
        "The classes answer to the vote as well. Right: to the matching of their own layer. Shows where two layers "
        "match otherwise.",
        SECTION,
        wrapped("pairing", for_classes_too),
    ),
    union_mutant(
        "plausible-union-of-auxiliary-layers-alone",
        "REG",
        "The boxes of the main layer keep its own matching. Right: they answer to the vote too. Shows where another "
        "layer matches otherwise.",
        SECTION,
        wrapped("pairing", for_auxiliary_alone),
    ),
    union_mutant(
        "plausible-union-without-encoder",
        "REG",
        "The encoder has no vote. Right: it is a layer as the others are. Shows where it matches otherwise.",
        SECTION,
        wrapped("pairing", without_encoder),
    ),
    union_mutant(
        "plausible-union-without-main-layer",
        "REG",
        "The main layer has no vote. Right: it is a layer as the others are. Shows where it matches otherwise.",
        SECTION,
        wrapped("pairing", without_main),
    ),
    union_mutant(
        "plausible-union-first-vote",
        "REG",
        "A query keeps the target of the first layer that matches it. Right: the most frequent one. Shows where later "
        "layers agree on another.",
        SECTION,
        wrapped("pairing", first_vote),
    ),
    union_mutant(
        "plausible-union-last-vote",
        "REG",
        "A query keeps the target of the last layer that matches it: a dictionary was overwritten. Right: the most "
        "frequent one. Shows where earlier layers agree on another.",
        SECTION,
        wrapped("pairing", last_vote),
        home=DEIM,
    ),
    union_mutant(
        "plausible-union-is-the-main-matching",
        "REG",
        "The boxes of all layers have the matching of the main layer. Right: the vote of all layers. Shows where "
        "another layer matches otherwise.",
        SECTION,
        wrapped("pairing", main_matching),
    ),
    union_mutant(
        "plausible-union-one-query-for-each-target",
        "REG",
        "Of several queries that the vote gives one target only the first is kept. Right: all of them. Shows where two "
        "layers match otherwise.",
        SECTION,
        wrapped("pairing", one_query_for_each_target),
    ),
    union_mutant(
        "plausible-union-over-targets",
        "REG",
        "Box losses are divided by the number of targets. Right: by that of the pairs of the union. Shows where two "
        "layers match otherwise.",
        SECTION,
        boxes_over(per_target),
    ),
    union_mutant(
        "plausible-union-over-pairs-of-one-layer",
        "REG",
        "Box losses are divided by the pairs of a single layer. Right: by those of the union. Shows where two layers "
        "match otherwise.",
        SECTION,
        boxes_over(pairs_of_one_layer),
        home=DEIM,
    ),
    union_mutant(
        "plausible-classes-over-largest-image",
        "CLASS",
        "The classification loss is divided by the targets of the image that has most. Right: by those of the batch. "
        "Shows with several images.",
        SECTION,
        lambda spec: replace_in(spec, "normaliser.varifocal", largest_image),
    ),
    union_mutant(
        "plausible-votes-by-boxes-alone",
        "MATCH",
        "The layers that vote are matched by boxes alone. Right: by the classes as well. Shows where the better class "
        "has the worse box.",
        SECTION,
        wrapped("matcher.configured", by_boxes_alone),
    ),
)
