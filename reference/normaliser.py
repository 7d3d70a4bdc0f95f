"""Normalisers: what the sum of a loss over a layer is divided by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from detr_conformance.reference.classification import NO_OBJECT_WEIGHT

Counts = tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Tally:
    """What there is to divide by, in one layer.

    Attributes:
        pairs: number of pairs of each image, those of the term in question; a share of it where ranks are averaged.
        targets: number of targets of each image, likewise.
        queries: number of queries of an image.
        classes: number of classes, without no object.
        layers: number of layers of this part.
        groups: number of denoising groups; 1 for ordinary queries.
        is_denoising: the layer is one of denoising queries.
        scores: sum of the target scores.
        query_groups: number of groups of ordinary queries.
        about: whose pairs are counted: those of the classification loss, or those of the box losses.
        ranks: what every rank of a data-parallel run has in this layer, this one included; empty in any other run.
        steps: likewise every micro-batch of an optimiser step whose losses have one normaliser.
    """

    pairs: Counts
    targets: Counts
    queries: int
    classes: int
    layers: int = 1
    groups: int = 1
    is_denoising: bool = False
    scores: float = 0.0
    query_groups: int = 1
    about: Literal["classes", "boxes"] = "classes"
    ranks: tuple[LayerTally, ...] = ()
    steps: tuple[LayerTally, ...] = ()


class LayerTally(NamedTuple):
    """What there is to divide by in one layer, by whose pairs are counted.

    Attributes:
        classes: with the pairs of the classification loss.
        boxes: with those of the box losses.
    """

    classes: Tally
    boxes: Tally


Normaliser = Callable[[Tally], int | float]


def per_matched_pair(tally: Tally) -> int | float:
    """N, the matched pairs, at least 1: with few queries less than the targets; with denoising, of all groups."""
    return max(sum(tally.pairs), 1)


def per_target(tally: Tally) -> int | float:
    """The targets, matched or not, at least 1; with denoising, the pairs of all groups."""
    return per_matched_pair(tally) if tally.is_denoising else max(sum(tally.targets), 1)


def per_query(tally: Tally) -> int:
    """Q, the queries of one image."""
    return tally.queries


def per_target_and_group(tally: Tally) -> int | float:
    """The targets times the groups of queries, at least 1."""
    return max(sum(tally.targets) * tally.query_groups, 1)


def per_weighted_query(tally: Tally) -> float:
    """All queries of the batch, matched ones counting 1 and the others as much as no object counts."""
    matched = sum(tally.pairs)
    return matched + NO_OBJECT_WEIGHT * (len(tally.pairs) * tally.queries - matched)
