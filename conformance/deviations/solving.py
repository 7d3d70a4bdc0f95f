"""Deviations in the assignment of one image: what is made of a right cost matrix."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation, with_matcher
from detr_conformance.reference import HungarianMatcher, Matching, linear_sum_assignment
from detr_conformance.reference.rounding import plain


class BigPadding(HungarianMatcher):
    """Pads the cost matrix to a square with 1e9 in float32, whose neighbours are 64 apart."""

    def assign(self, cost: np.ndarray) -> Matching:
        """Row minima vanish in the padded columns, which makes some of them free."""
        queries, targets = cost.shape
        square = np.full((max(cost.shape),) * 2, 1e9, dtype=np.float32)
        square[:queries, :targets] = plain(cost)
        reduced = square - square.min(axis=1, keepdims=True)
        assignment = linear_sum_assignment(reduced.astype(np.float64))
        real = (assignment.rows < queries) & (assignment.columns < targets)
        return assignment.rows[real], assignment.columns[real]


class ReducedRows(HungarianMatcher):
    """Begins as one does with a square matrix, by taking the smallest cost of each query off its row."""

    def assign(self, cost: np.ndarray) -> Matching:
        """With queries to spare, the row of a bad query looks as good as that of a good one."""
        return super().assign(cost - cost.min(axis=1, keepdims=True) if cost.size else cost)


class Greedy(HungarianMatcher):
    """Takes the cheapest pair, then the cheapest of what is left."""

    def assign(self, cost: np.ndarray) -> Matching:
        """The last pairs pay for the first."""
        left, pairs = np.array(cost), []
        for _ in range(min(cost.shape)):
            query, target = np.unravel_index(int(left.argmin()), left.shape)
            pairs.append((query, target))
            left[query], left[:, target] = np.inf, np.inf
        queries, targets = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        return queries, targets


class Nearest(HungarianMatcher):
    """Gives every target its cheapest query, whoever else has it."""

    def assign(self, cost: np.ndarray) -> Matching:
        """The column minima."""
        return cost.argmin(axis=0).astype(np.int64), np.arange(cost.shape[1])


class SortedApart(HungarianMatcher):
    """Sorts the queries without taking the targets along."""

    def assign(self, cost: np.ndarray) -> Matching:
        """Both ascending."""
        queries, targets = super().assign(cost)
        return queries, np.sort(targets)


class FirstTargets(HungarianMatcher):
    """Leaves out the last targets where there are more of them than queries."""

    def assign(self, cost: np.ndarray) -> Matching:
        """Of the square part."""
        return super().assign(cost[:, : len(cost)])


SOLVING_DEVIATIONS = (
    Deviation(
        "khub-bigM-float32",
        "MATCH",
        "The solver padded a rectangular problem with 1e9 in float32; after reduction the finite costs were "
        "lost and the matching was not the cheapest. Right: solve the rectangular problem. Shows with fewer "
        "targets than queries.",
        "keras-team/keras-hub, models/d_fine/d_fine_utils.py",
        loss=with_matcher(BigPadding),
    ),
    Deviation(
        "scenic-cover-matcher-rectangular",
        "MATCH",
        "A solver made for square matrices was given rectangular ones, and its matching was not the cheapest: what "
        "may be taken off a row that is matched may not be taken off one that is left over. Right: a rectangular "
        "solver, or a square made with moderate costs. Shows with fewer targets than queries.",
        "google-research/scenic, commit 3c6f19d",
        loss=with_matcher(ReducedRows),
    ),
    Deviation(
        "plausible-greedy-matching",
        "MATCH",
        "The cheapest pair is taken first, then the cheapest of what is left. Right: the cheapest matching as a "
        "whole. Shows where two targets compete for a query.",
        "loss specification, HungarianMatcher: each image's block is solved on its own",
        loss=with_matcher(Greedy),
    ),
    Deviation(
        "plausible-nearest-query",
        "MATCH",
        "Every target takes its cheapest query, so that two may have the same one. Right: no query has two targets. "
        "Shows where two targets compete for a query.",
        "loss specification, HungarianMatcher: min(Q, n_b) pairs come out",
        loss=with_matcher(Nearest),
    ),
    Deviation(
        "plausible-queries-sorted-apart",
        "MATCH",
        "The pairs are brought into the order of their queries, and the targets stay behind. Right: sort the pairs. "
        "Shows where the cheapest matching is not in order.",
        "loss specification, HungarianMatcher: query indices ascending",
        loss=with_matcher(SortedApart),
    ),
    Deviation(
        "plausible-first-targets-only",
        "MATCH",
        "Where an image has more targets than queries, only its first ones take part. Right: the cheapest choice of "
        "targets. Shows with fewer queries than targets.",
        "loss specification, HungarianMatcher: each image's own Q x n_b block",
        loss=with_matcher(FirstTargets),
    ),
)
