"""Mutants in the assignment of one image: what is made of a right cost matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import Matching, linear_sum_assignment, replace_in
from detr_conformance.reference.rounding import plain

ASSIGN = "matcher.assign"
Assign = Callable[[np.ndarray], Matching]


def padded_with_1e9(cost: np.ndarray) -> Matching:
    """Pads to a square with 1e9 in float32, whose neighbours are 64 apart: row minima vanish in the padded columns."""
    queries, targets = cost.shape
    square = np.full((max(cost.shape),) * 2, 1e9, dtype=np.float32)
    square[:queries, :targets] = plain(cost)
    reduced = square - square.min(axis=1, keepdims=True)
    assignment = linear_sum_assignment(reduced.astype(np.float64))
    real = (assignment.rows < queries) & (assignment.columns < targets)
    return assignment.rows[real], assignment.columns[real]


def rows_reduced(right: Assign, cost: np.ndarray) -> Matching:
    """The smallest cost of each query is taken off its row: a bad query then looks as good as a good one."""
    return right(cost - plain(cost).min(axis=1, keepdims=True) if cost.size else cost)


def greedy(cost: np.ndarray) -> Matching:
    """The cheapest pair, then the cheapest of what is left."""
    left, pairs = np.array(plain(cost)), []
    for _ in range(min(cost.shape)):
        query, target = np.unravel_index(int(left.argmin()), left.shape)
        pairs.append((query, target))
        left[query], left[:, target] = np.inf, np.inf
    queries, targets = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    return queries, targets


def nearest(cost: np.ndarray) -> Matching:
    """Every target with its cheapest query, whoever else has it."""
    return plain(cost).argmin(axis=0).astype(np.int64), np.arange(cost.shape[1])


def sorted_apart(right: Assign, cost: np.ndarray) -> Matching:
    """The queries are brought into order without taking the targets along."""
    queries, targets = right(cost)
    return queries, np.sort(targets)


SOLVING_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "khub-bigM-float32",
        "MATCH",
        "The solver padded a rectangular problem with 1e9 in float32; after reduction the finite costs were "
        "lost and the matching was not the cheapest. Right: solve the rectangular problem. Shows with fewer "
        "targets than queries.",
        "keras-team/keras-hub, models/d_fine/d_fine_utils.py",
        lambda spec: replace_in(spec, ASSIGN, padded_with_1e9),
    ),
    Mutant(
        "scenic-cover-matcher-rectangular",
        "MATCH",
        "A solver made for square matrices was given rectangular ones, and its matching was not the cheapest: what "
        "may be taken off a row that is matched may not be taken off one that is left over. Right: a rectangular "
        "solver, or a square made with moderate costs. Shows with fewer targets than queries.",
        "google-research/scenic, commit 3c6f19d",
        wrapped(ASSIGN, rows_reduced),
    ),
    Mutant(
        "plausible-greedy-matching",
        "MATCH",
        "The cheapest pair is taken first, then the cheapest of what is left. Right: the cheapest matching as a "
        "whole. Shows where two targets compete for a query.",
        "loss specification, HungarianMatcher: each image's block is solved on its own",
        lambda spec: replace_in(spec, ASSIGN, greedy),
    ),
    Mutant(
        "plausible-nearest-query",
        "MATCH",
        "Every target takes its cheapest query, so that two may have the same one. Right: no query has two targets. "
        "Shows where two targets compete for a query.",
        "loss specification, HungarianMatcher: min(Q, n_b) pairs come out",
        lambda spec: replace_in(spec, ASSIGN, nearest),
    ),
    Mutant(
        "plausible-queries-sorted-apart",
        "MATCH",
        "The pairs are brought into the order of their queries, and the targets stay behind. Right: sort the pairs. "
        "Shows where the cheapest matching is not in order.",
        "loss specification, HungarianMatcher: query indices ascending",
        wrapped(ASSIGN, sorted_apart),
    ),
    Mutant(
        "plausible-first-targets-only",
        "MATCH",
        "Where an image has more targets than queries, only its first ones take part. Right: the cheapest choice of "
        "targets. Shows with fewer queries than targets.",
        "loss specification, HungarianMatcher: each image's own Q x n_b block",
        wrapped(ASSIGN, lambda right, cost: right(cost[:, : len(cost)])),
    ),
)
