"""The matcher: which query answers for which target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Integer

from detr_conformance.reference.assignment import linear_sum_assignment
from detr_conformance.reference.boxes import IOU_EPS, bbox_iou, l1_distance
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.validation import check_gains, check_predictions, check_targets

Matching = tuple[Int64[np.ndarray, " _pairs"], Int64[np.ndarray, " _pairs"]]
"""Queries, ascending, and the target of each."""

Cost = Float[np.ndarray, "queries targets"]

DEFAULT_COST_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}

PROBABILITY_EPS = 1e-8
"""Keeps the logarithms of the class cost finite."""


@dataclass(frozen=True)
class CostTerms:
    """The three terms of the matching cost of one image, before gains."""

    cls: Cost
    bbox: Cost
    giou: Cost


class HungarianMatcher:
    """One-to-one assignment of queries to targets at the least total cost, image by image.

        cost = gain_class cls + gain_bbox sum|b - b'| + gain_giou (1 - GIoU(b, b'))

    with, for p = sigmoid(logit of the target's class),

        cls = alpha (1 - p)^gamma (-log(p + 1e-8)) - (1 - alpha) p^gamma (-log(1 - p + 1e-8))

    if `use_fl`, else `-softmax(logits)[target's class]`. Every entry that is not finite becomes 0 (quirk: most
    costs are positive, so a NaN prediction is often the cheapest match). Nothing of it carries a gradient.

    Args:
        cost_gain: weights of the terms, by default class 1, bbox 5, giou 2.
        use_fl: focal class cost on sigmoids; otherwise the softmax probability.
        with_mask: must be false: mask costs are not part of this reference.
        num_sample_points: accepted for the signature's sake; only mask costs would use it.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost, >= 0.

    Reference: Carion et al., DETR, arXiv 2005.12872, equation 1, section 3.1 and appendix A.2; focal loss for the
    classes: Zhu et al., Deformable DETR, arXiv 2010.04159, section 5.
    """

    iou_eps: float = IOU_EPS

    def __init__(
        self,
        cost_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        with_mask: bool = False,
        num_sample_points: int = 12544,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        """Keep the options; KeyError, TypeError or ValueError where a gain is missing or no finite number."""
        if with_mask:
            raise NotImplementedError(f"with_mask is {with_mask}, expected False: mask costs are left out")
        self.cost_gain = dict(DEFAULT_COST_GAIN if cost_gain is None else cost_gain)
        check_gains("cost_gain", self.cost_gain)
        self.use_fl = use_fl
        self.num_sample_points = num_sample_points
        self.alpha = alpha
        self.gamma = gamma

    def __call__(
        self,
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        pred_scores: Float[np.ndarray, "images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        masks: object = None,
        gt_mask: object = None,
    ) -> list[Matching]:
        """Match one layer's predictions.

        Args:
            pred_bboxes: predicted boxes in centre form.
            pred_scores: logits.
            gt_bboxes: target boxes of all images in centre form, image 0's first.
            gt_cls: class of each target, 0 to classes - 1.
            gt_groups: number of targets of each image.
            masks: accepted and not read, as `gt_mask`.
            gt_mask: accepted and not read.

        Returns:
            For each image min(queries, its targets) pairs; targets count through the whole batch.

        Raises:
            TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        check_predictions(pred_bboxes, pred_scores, "images queries")
        images, _, classes = pred_scores.shape
        check_targets(gt_bboxes, gt_cls, gt_groups, images, classes)
        boxes, logits, targets = (each.astype(np.float64) for each in (pred_bboxes, pred_scores, gt_bboxes))
        labels = gt_cls.astype(np.int64)
        matchings = []
        for image, count in enumerate(gt_groups):
            first = sum(gt_groups[:image])
            own = slice(first, first + count)
            cost = self.cost(boxes[image], logits[image], targets[own], labels[own])
            queries, chosen = self.assign(cost)
            matchings.append((queries, first + chosen))
        return matchings

    def cost(
        self,
        pred_bboxes: Float[np.ndarray, "queries 4"],
        pred_scores: Float[np.ndarray, "queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
    ) -> Cost:
        """Gain-weighted cost of every (query, target) pair of one image, non-finite entries replaced."""
        # Predictions may be NaN or infinite here; the last step deals with what comes of it.
        with np.errstate(all="ignore"):
            terms = self.cost_terms(pred_bboxes, pred_scores, gt_bboxes, gt_cls)
            gain = self.cost_gain
            total = gain["class"] * terms.cls + gain["bbox"] * terms.bbox + gain["giou"] * terms.giou
            return self.replace_non_finite(total)

    def cost_terms(
        self,
        pred_bboxes: Float[np.ndarray, "queries 4"],
        pred_scores: Float[np.ndarray, "queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
    ) -> CostTerms:
        """The three terms of the cost, each for every pair of one image."""
        boxes, target_boxes = pred_bboxes[:, None], gt_bboxes[None]
        class_cost = self.focal_class_cost if self.use_fl else self.softmax_class_cost
        giou = bbox_iou(boxes, target_boxes, xywh=True, GIoU=True, eps=self.iou_eps)[..., 0]
        distance = np.sum(l1_distance(boxes, target_boxes), axis=-1)
        return CostTerms(cls=class_cost(pred_scores, gt_cls), bbox=distance, giou=1.0 - giou)

    def focal_class_cost(
        self, logits: Float[np.ndarray, "queries classes"], gt_cls: Integer[np.ndarray, " targets"]
    ) -> Cost:
        """What the focal loss would gain by making this query a positive of the target's class."""
        p = sigmoid(logits[:, gt_cls])
        positive = self.alpha * (1.0 - p) ** self.gamma * -np.log(p + PROBABILITY_EPS)
        negative = (1.0 - self.alpha) * p**self.gamma * -np.log(1.0 - p + PROBABILITY_EPS)
        return positive - negative

    def softmax_class_cost(
        self, logits: Float[np.ndarray, "queries classes"], gt_cls: Integer[np.ndarray, " targets"]
    ) -> Cost:
        """Minus the probability of the target's class among all classes."""
        weights = np.exp(logits - plain(logits).max(axis=-1, keepdims=True))
        return -(weights / np.sum(weights, axis=-1)[:, None])[:, gt_cls]

    def replace_non_finite(self, cost: Cost) -> Cost:
        """quirk: NaN and infinity become 0, which makes a broken prediction cheap instead of dear."""
        return np.where(np.isfinite(cost), cost, 0.0)

    def assign(self, cost: Cost) -> Matching:
        """The cheapest one-to-one assignment of one image."""
        assignment = linear_sum_assignment(plain(cost))
        return assignment.rows, assignment.columns
