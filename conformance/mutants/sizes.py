"""Mutants that are right in a small test and wrong at the sizes that people train with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.layers import weighed
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.mutants.normaliser import counted
from detr_conformance.reference import LossConfig, Matching
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.pairing import Match, Pairs
from detr_conformance.reference.rounding import plain

Batch = Callable[..., list[Matching]]
Chosen = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Which pairs of an image there are, from their queries and their targets, counted within the image."""

ANY_SIZE = "loss specification, arguments: any number of layers, images, queries, classes, targets and groups"
BYTE, CHUNK = 256, 4096


def only(chosen: Chosen) -> Change:
    """Other pairs of an image than these are lost."""

    def batch(right: Batch, *args: Any) -> list[Matching]:
        matchings, targets = right(*args), args[4]
        kept = [chosen(queries, own - first) for (queries, own), first in zip(matchings, _firsts(targets), strict=True)]
        return [(queries[each], own[each]) for (queries, own), each in zip(matchings, kept, strict=True)]

    return wrapped("matcher.batch", batch)


def _firsts(targets: Targets) -> list[int]:
    """The first target of each image."""
    return [targets.of_image(image).start for image in range(len(targets.counts))]


def sixteen_images(right: Batch, *args: Any) -> list[Matching]:
    """Images beyond the sixteenth have no pairs."""
    return [
        (queries[: len(queries) * (image < 16)], own[: len(own) * (image < 16)])
        for image, (queries, own) in enumerate(right(*args))
    ]


def one_chunk(right: Batch, *args: Any) -> list[Matching]:
    """Queries of the batch beyond the 4,096th have no pairs."""
    per_image = args[2].shape[1]
    kept = [(queries + image * per_image < CHUNK, (queries, own)) for image, (queries, own) in enumerate(right(*args))]
    return [(queries[each], own[each]) for each, (queries, own) in kept]


def few_candidates(right: Callable[..., Any], cost: np.ndarray, number: int) -> Any:
    """Only so many cheapest queries of each target are considered, if they are enough."""
    candidates = np.unique(np.argsort(plain(cost), axis=0, kind="stable")[:number])
    if len(candidates) < min(cost.shape):
        return right(cost)
    queries, targets = right(cost[candidates])
    return candidates[queries], targets


def query_in_a_byte(right: Batch, *args: Any) -> list[Matching]:
    """Queries are counted modulo 256."""
    return [(queries % BYTE, own) for queries, own in right(*args)]


def target_in_seven_bits(right: Batch, *args: Any) -> list[Matching]:
    """Targets are counted through the batch modulo 128."""
    return [(queries, own % 128) for queries, own in right(*args)]


def label_in_a_byte(right: Callable[..., np.ndarray], *args: Any) -> np.ndarray:
    """Labels are counted modulo 256; background is what the last argument says."""
    classes, background = right(*args), args[-1]
    return np.where(classes == background, background, classes % BYTE)


def first_slots(most: int) -> Change:
    """Denoising slots beyond so many reconstruct nothing."""

    def pairs(right: Batch, *args: Any) -> list[Matching]:
        return [(slots[slots < most], own[slots < most]) for slots, own in right(*args)]

    return wrapped("denoising.pairs", pairs)


def ten_groups(right: Batch, pos_idx: Any, groups: int, *args: Any) -> list[Matching]:
    """Only the first ten denoising groups count."""
    kept = min(groups, 10)
    return [
        (slots[: len(slots) * kept // groups], own[: len(own) * kept // groups])
        for slots, own in right(pos_idx, groups, *args)
    ]


def early_layer(right: Callable[..., Any], match: Match, layers: int, config: LossConfig) -> list[Pairs]:
    """The layer whose matching is shared is one of the first four."""
    return right(match, layers, replace(config, uni_match_ind=min(config.uni_match_ind, 3)))


SIZE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-normaliser-at-most-40",
        "CLASS",
        "The normaliser is capped at 40. Right: the number of targets, however many. Shows with 41 targets.",
        ANY_SIZE,
        counted(lambda right, tally: min(right(tally), 40.0)),
    ),
    Mutant(
        "plausible-first-256-queries-classified",
        "CLASS",
        "Only the first 256 queries are in the classification loss. Right: all. Shows with 257 queries.",
        ANY_SIZE,
        wrapped("class_total", lambda right, terms, *rest: right(terms[:, :BYTE], *(rest[0][:, :BYTE], *rest[1:]))),
    ),
    Mutant(
        "plausible-first-256-classes",
        "CLASS",
        "Only the first 256 classes are in the classification loss. Right: all. Shows with 257 classes.",
        ANY_SIZE,
        wrapped("class_total", lambda right, terms, *rest: right(terms[..., :BYTE], *rest)),
    ),
    Mutant(
        "plausible-labels-in-a-byte",
        "CLASS",
        "Labels are bytes: class 256 becomes class 0. Right: integers of 64 bits. Shows with 257 classes.",
        ANY_SIZE,
        wrapped("labels", label_in_a_byte),
    ),
    Mutant(
        "plausible-sixteen-images",
        "MATCH",
        "Images beyond the sixteenth of a batch are not matched. Right: all. Shows with 17 images.",
        ANY_SIZE,
        wrapped("matcher.batch", sixteen_images),
    ),
    Mutant(
        "plausible-one-chunk-of-costs",
        "MATCH",
        "Costs are computed for 4,096 queries at a time, and nobody asks for the second time. Right: for all queries "
        "of the batch. Shows with fourteen images of 300 queries.",
        ANY_SIZE,
        wrapped("matcher.batch", one_chunk),
    ),
    Mutant(
        "plausible-ten-candidates-of-each-target",
        "MATCH",
        "Only queries that are among the ten cheapest of some target are matched, which is quicker. Right: all "
        "queries, so that the pairs together are the cheapest. Shows with many targets that want the same queries.",
        ANY_SIZE,
        wrapped("matcher.assign", partial(few_candidates, number=10)),
    ),
    Mutant(
        "plausible-hundred-targets",
        "MATCH",
        "Targets of an image beyond the hundredth are not matched, as an evaluation has it. Right: as many as there "
        "are queries. Shows with 101 targets.",
        ANY_SIZE,
        only(lambda _queries, targets: targets < 100),
    ),
    Mutant(
        "plausible-queries-in-a-byte",
        "MATCH",
        "Indices of queries are bytes: query 256 becomes query 0. Right: integers of 64 bits. Shows with 257 queries.",
        ANY_SIZE,
        wrapped("matcher.batch", query_in_a_byte),
    ),
    Mutant(
        "plausible-targets-in-seven-bits",
        "MATCH",
        "Indices of targets are signed bytes, counted modulo 128. Right: integers of 64 bits. Shows with 129 targets "
        "in the batch.",
        ANY_SIZE,
        wrapped("matcher.batch", target_in_seven_bits),
    ),
    Mutant(
        "plausible-six-auxiliary-layers",
        "AUX",
        "Auxiliary layers beyond the sixth are lost: RT-DETR has no more. Right: all but the last layer. Shows with "
        "eight layers.",
        ANY_SIZE,
        weighed(lambda layer, _stack: layer < 6),
    ),
    Mutant(
        "plausible-shared-layer-among-four",
        "AUX",
        "The layer whose matching all share is looked up among the first four. Right: any auxiliary one. Shows with a "
        "uni_match_ind of 4.",
        "loss specification, DETRLoss, use_uni_match",
        wrapped("pairing", early_layer),
    ),
    Mutant(
        "plausible-ten-denoising-groups",
        "DN",
        "Denoising groups beyond the tenth reconstruct nothing. Right: all. Shows with eleven groups.",
        ANY_SIZE,
        wrapped("denoising.pairs", ten_groups),
    ),
    Mutant(
        "plausible-first-256-slots",
        "DN",
        "Denoising slots beyond the first 256 reconstruct nothing. Right: all. Shows with 129 targets in an image.",
        ANY_SIZE,
        first_slots(BYTE),
    ),
)
