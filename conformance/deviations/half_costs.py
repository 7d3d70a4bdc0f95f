"""Deviations in the matching of float16 predictions, whose costs belong in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.properties.tolerance import arithmetic
from detr_conformance.reference import HungarianMatcher, RTDETRDetectionLoss, bbox_iou
from detr_conformance.reference.matcher import CostTerms

HALF = arithmetic("float16")


def matched_in_half(kind: type[HungarianMatcher]) -> type[RTDETRDetectionLoss]:
    """The loss with another matcher for predictions in float16."""

    class Loss(RTDETRDetectionLoss):
        def __setattr__(self, name: str, setting: Any) -> None:
            super().__setattr__(name, setting)
            if name == "arithmetic" and setting == HALF:
                self.matcher = kind(cost_gain=self.matcher.cost_gain)

    return Loss


def half(array: np.ndarray) -> np.ndarray:
    """The array in float16."""
    return array.astype(np.float16)


class HalfCost(HungarianMatcher):
    """Costs in float16, where a sigmoid soon is 1 and 1e-8 is 0."""

    def cost(self, pred_bboxes: np.ndarray, pred_scores: np.ndarray, *targets: np.ndarray) -> np.ndarray:
        """Of everything in float16 but the classes."""
        return super().cost(half(pred_bboxes), half(pred_scores), half(targets[0]), targets[1]).astype(np.float64)


class HalfClassCost(HungarianMatcher):
    """Logarithms in float16, where 1e-8 is 0."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """Of logits in float16."""
        return super().focal_class_cost(half(logits), gt_cls).astype(np.float64)


class HalfBoxCosts(HungarianMatcher):
    """Distances and GIoU in float16."""

    def cost_terms(self, pred_bboxes: np.ndarray, pred_scores: np.ndarray, *targets: np.ndarray) -> CostTerms:
        """Of boxes in float16."""
        return super().cost_terms(half(pred_bboxes), pred_scores, half(targets[0]), targets[1])


class PixelAreas(HungarianMatcher):
    """GIoU of boxes in pixels of an image of 640, whose areas float16 cannot hold."""

    def cost_terms(self, *arrays: np.ndarray) -> CostTerms:
        """Infinite areas, and NaN."""
        terms = super().cost_terms(*arrays)
        boxes, targets = half(640.0 * arrays[0][:, None]), half(640.0 * arrays[2][None])
        return CostTerms(terms.cls, terms.bbox, 1.0 - bbox_iou(boxes, targets, GIoU=True)[..., 0].astype(np.float64))


HALF_COST_DEVIATIONS = (
    Deviation(
        "ul-matcher-half-precision",
        "MATCH",
        "Costs were computed in the precision of the predictions: in float16 a sigmoid soon is 1, its logarithm "
        "infinite, and such a cost counts as 0. Right: in float32. Shows in who is matched from logits of 8 on.",
        "ultralytics/ultralytics up to 8.4.171, models/utils/ops.py",
        loss=matched_in_half(HalfCost),
    ),
    Deviation(
        "detrex-fp16-eps-underflow",
        "MATCH",
        "The 1e-8 in the logarithms of the class cost is 0 in float16. Right: float32. Shows in who is matched from "
        "logits of 8 on.",
        "IDEA-Research/detrex, commit b978bf2, pull request 250",
        loss=matched_in_half(HalfClassCost),
    ),
    Deviation(
        "mmdet-force-fp32-wrong-names",
        "MATCH",
        "The cast of the matcher's input to float32 named arguments that did not exist, and distances and IoU were "
        "computed in float16. Right: float32. Shows where two matchings cost nearly the same.",
        "open-mmlab/mmdetection, pull request 9607",
        loss=matched_in_half(HalfBoxCosts),
    ),
    Deviation(
        "mmdet-amp-targets-and-iou-overflow",
        "MATCH",
        "IoU was computed in float16 on pixels, where areas beyond 256 by 256 are infinite. Right: in float32. Shows "
        "on large boxes.",
        "open-mmlab/mmdetection, pull request 10335",
        loss=matched_in_half(PixelAreas),
    ),
)
