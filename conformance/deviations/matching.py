"""Deviations in the matching, and in the pairing and generation of denoising queries."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import (
    HungarianMatcher,
    Matching,
    RTDETRDetectionLoss,
    get_cdn_group,
    linear_sum_assignment,
)
from detr_conformance.reference.rounding import plain


class BigPaddingMatcher(HungarianMatcher):
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


class BigPadding(RTDETRDetectionLoss):
    """The loss with the matcher that pads too large."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the other matcher."""
        super().__init__(*args, **options)
        self.matcher = BigPaddingMatcher(cost_gain=self.matcher.cost_gain)


class RowsForColumns(RTDETRDetectionLoss):
    """Denoising slots are used as targets, and the first queries as the positive slots."""

    @staticmethod
    def get_dn_match_indices(*args: Any, **options: Any) -> list[Matching]:
        """Slots and targets in each other's place, clipped to what exists."""
        matching = RTDETRDetectionLoss.get_dn_match_indices(*args, **options)
        last = max((int(targets.max()) for _, targets in matching if len(targets)), default=0)
        return [(np.arange(len(slots)), np.minimum(slots, last)) for slots, _ in matching]


def unpaired_groups(*args: Any, **options: Any) -> tuple[Any, ...]:
    """All positives first, then all negatives, while the attention mask still groups 2 M neighbours."""
    labels, boxes, blocked, meta = get_cdn_group(*args, **options)
    if labels is None or boxes is None or blocked is None or meta is None:
        return labels, boxes, blocked, meta
    groups, slots = meta["dn_num_group"], meta["dn_num_split"][0]
    order = np.arange(slots).reshape(groups, 2, -1).swapaxes(0, 1).ravel()
    place = np.argsort(order)
    moved = {"dn_pos_idx": [place[own] for own in meta["dn_pos_idx"]]}
    return labels[:, order], boxes[:, order], blocked, meta | moved


MATCHING_DEVIATIONS = (
    Deviation(
        "khub-bigM-float32",
        "MATCH",
        "The solver padded a rectangular problem with 1e9 in float32; after reduction the finite costs were "
        "lost and the matching was not the cheapest. Right: solve the rectangular problem. Shows with fewer "
        "targets than queries.",
        "keras-team/keras-hub, models/d_fine/d_fine_utils.py",
        loss=BigPadding,
    ),
    Deviation(
        "khub-dn-rows-columns-swapped",
        "DN",
        "The positive slots were used as target indices and 0, 1, 2, … as the slots. Right: slot j of each "
        "group belongs to target j. Shows with two groups.",
        "keras-team/keras-hub, get_cdn_matched_indices",
        loss=RowsForColumns,
    ),
    Deviation(
        "ul-cdn-pos-neg-unpaired",
        "DN",
        "All positives were laid out before all negatives, while the attention mask grouped 2 M neighbours: "
        "positives of one target saw each other, and the last groups held negatives only. Right: each group "
        "holds its positives, then its negatives. Shows with two groups.",
        "ultralytics/ultralytics 8.0.124 to 8.4.170, issue 14217",
        generator=unpaired_groups,
    ),
)
