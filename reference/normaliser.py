"""Normalisers: what the sum of a loss over a layer is divided by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detr_conformance.reference.classification import NO_OBJECT_WEIGHT


@dataclass(frozen=True)
class Tally:
    """What there is to divide by, in one layer.

    Attributes:
        pairs: number of pairs of each image, those of the term in question.
        targets: number of targets of each image.
        queries: number of queries of an image.
        classes: number of columns of logits.
        layers: number of layers of this part.
        groups: number of denoising groups; 1 for ordinary queries.
        is_denoising: the layer is one of denoising queries.
        scores: sum of the target scores.
        query_groups: number of groups of ordinary queries.
    """

    pairs: tuple[int, ...]
    targets: tuple[int, ...]
    queries: int
    classes: int
    layers: int = 1
    groups: int = 1
    is_denoising: bool = False
    scores: float = 0.0
    query_groups: int = 1


Normaliser = Callable[[Tally], float]


def matched_pairs(tally: Tally) -> int:
    """N, the matched pairs, at least 1: with few queries less than the targets; with denoising, of all groups."""
    return max(sum(tally.pairs), 1)


def targets(tally: Tally) -> int:
    """The targets, matched or not, at least 1; with denoising, the pairs of all groups."""
    return matched_pairs(tally) if tally.is_denoising else max(sum(tally.targets), 1)


def queries(tally: Tally) -> int:
    """Q, the queries of one image."""
    return tally.queries


def targets_of_all_groups(tally: Tally) -> int:
    """The targets times the groups of queries, at least 1."""
    return max(sum(tally.targets) * tally.query_groups, 1)


def weighted_queries(tally: Tally) -> float:
    """All queries of the batch, matched ones counting 1 and the others as much as no object counts."""
    matched = sum(tally.pairs)
    return matched + NO_OBJECT_WEIGHT * (len(tally.pairs) * tally.queries - matched)
