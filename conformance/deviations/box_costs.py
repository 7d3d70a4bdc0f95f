"""Deviations in the box terms of the matching cost, and in their sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.deviations.deviation import Deviation, with_matcher
from detr_conformance.reference import HungarianMatcher, bbox_iou
from detr_conformance.reference.matcher import CostTerms


class CIoUCost(HungarianMatcher):
    """1 - CIoU."""

    def cost_terms(self, pred_bboxes: np.ndarray, *others: np.ndarray) -> CostTerms:
        """Another measure in place of GIoU."""
        measure = bbox_iou(pred_bboxes[:, None], others[1][None], CIoU=True)[..., 0]
        return replace(super().cost_terms(pred_bboxes, *others), giou=1.0 - measure)


class IoUCost(HungarianMatcher):
    """1 - IoU."""

    def cost_terms(self, pred_bboxes: np.ndarray, *others: np.ndarray) -> CostTerms:
        """Another measure in place of GIoU."""
        measure = bbox_iou(pred_bboxes[:, None], others[1][None])[..., 0]
        return replace(super().cost_terms(pred_bboxes, *others), giou=1.0 - measure)


class RewardedDistance(HungarianMatcher):
    """1 + GIoU."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """The wrong sign."""
        terms = super().cost_terms(*arrays)
        return replace(terms, giou=2.0 - terms.giou)


class NoEps(HungarianMatcher):
    """Nothing is added to union and hull."""

    iou_eps = 0.0


class ClampedBoxes(HungarianMatcher):
    """Predicted boxes are clamped to [0, 1], all four numbers of the centre form."""

    def cost_terms(self, pred_bboxes: np.ndarray, *others: np.ndarray) -> CostTerms:
        """Of the clamped boxes."""
        return super().cost_terms(np.clip(pred_bboxes, 0.0, 1.0), *others)


class CornerDistance(HungarianMatcher):
    """The L1 distance of corners."""

    def cost_terms(self, pred_bboxes: np.ndarray, *others: np.ndarray) -> CostTerms:
        """Between left, top, right and bottom edges."""
        apart = pred_bboxes[:, None] - others[1][None]
        centre, half = apart[..., :2], apart[..., 2:] / 2
        distance = np.abs(centre - half) + np.abs(centre + half)
        return replace(super().cost_terms(pred_bboxes, *others), bbox=distance.sum(axis=-1))


class MeanDistance(HungarianMatcher):
    """The mean of the four differences."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """A quarter of the sum."""
        terms = super().cost_terms(*arrays)
        return replace(terms, bbox=terms.bbox / 4)


class SwappedGains(HungarianMatcher):
    """The gains of the two box terms are in each other's place."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """The terms in each other's place."""
        terms = super().cost_terms(*arrays)
        return replace(terms, bbox=terms.giou, giou=terms.bbox)


class WithoutGIoU(HungarianMatcher):
    """Class and L1 alone."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """Nothing for GIoU."""
        terms = super().cost_terms(*arrays)
        return replace(terms, giou=0.0 * terms.giou)


class WithoutClass(HungarianMatcher):
    """Boxes alone."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """Nothing for the class."""
        terms = super().cost_terms(*arrays)
        return replace(terms, cls=0.0 * terms.cls)


class RoundedCost(HungarianMatcher):
    """The sum is kept in float16."""

    def replace_non_finite(self, cost: np.ndarray) -> np.ndarray:
        """With three digits, and infinite beyond 65504."""
        return super().replace_non_finite(cost.astype(np.float16).astype(np.float64))


BOXES = "loss specification, HungarianMatcher: box cost and GIoU cost"
SUM = "loss specification, HungarianMatcher: gain-weighted sum, in float32 or better"

BOX_COST_DEVIATIONS = (
    Deviation(
        "khub-ciou-matching-cost",
        "MATCH",
        "The matching cost had CIoU where GIoU is meant. Right: 1 - GIoU. Shows on boxes of different shape.",
        "keras-team/keras-hub 0.32.0, models/d_fine",
        loss=with_matcher(CIoUCost),
    ),
    Deviation(
        "detr-cost-without-iou-eps",
        "MATCH",
        "IoU was inter / union without eps: 0 / 0 for two boxes without area, and NaN went into the cost. Right: 1e-7 "
        "on union and hull. Shows on small boxes, too.",
        "facebookresearch/detr, util/box_ops.py; roboflow/rf-detr, pull request 1180",
        loss=with_matcher(NoEps),
    ),
    Deviation(
        "lightly-cost-on-clamped-boxes",
        "MATCH",
        "Predicted boxes are clamped to [0, 1] before the cost: sound in a sense, but not this profile's. Right: boxes "
        "as they are. Shows on a box with a size below 0.",
        "lightly-ai/lightly-train, pull request 707",
        loss=with_matcher(ClampedBoxes),
    ),
    Deviation(
        "plausible-iou-cost",
        "MATCH",
        "The cost is 1 - IoU, the same for all boxes that do not meet the target. Right: 1 - GIoU. Shows on boxes that "
        "lie apart.",
        BOXES,
        loss=with_matcher(IoUCost),
    ),
    Deviation(
        "plausible-giou-cost-sign",
        "MATCH",
        "The cost grows with GIoU. Right: 1 - GIoU. Shows wherever GIoU decides.",
        BOXES,
        loss=with_matcher(RewardedDistance),
    ),
    Deviation(
        "plausible-corner-distance-cost",
        "MATCH",
        "The L1 cost compares corners. Right: centres and sizes. Shows where one query is off in size and another one "
        "in place.",
        BOXES,
        loss=with_matcher(CornerDistance),
    ),
    Deviation(
        "plausible-mean-distance-cost",
        "MATCH",
        "The L1 cost is the mean of four differences. Right: their sum. Shows where boxes and classes disagree.",
        BOXES,
        loss=with_matcher(MeanDistance),
    ),
    Deviation(
        "plausible-cost-gains-swapped",
        "MATCH",
        "The gain of bbox weighs GIoU, and the other way round. Right: each its own. Shows with any two gains.",
        SUM,
        loss=with_matcher(SwappedGains),
    ),
    Deviation(
        "plausible-cost-without-giou",
        "MATCH",
        "The GIoU term is missing. Right: three terms. Shows where GIoU decides.",
        SUM,
        loss=with_matcher(WithoutGIoU),
    ),
    Deviation(
        "plausible-cost-without-class",
        "MATCH",
        "The class term is missing. Right: three terms. Shows where the class decides.",
        SUM,
        loss=with_matcher(WithoutClass),
    ),
    Deviation(
        "plausible-cost-in-float16",
        "MATCH",
        "The cost is kept in float16, whatever the predictions are. Right: float32 or better. Shows where two "
        "matchings cost nearly the same.",
        SUM,
        loss=with_matcher(RoundedCost),
    ),
)
