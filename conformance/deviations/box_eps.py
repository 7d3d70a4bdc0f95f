"""Deviations in what keeps the GIoU loss finite: eps, and boxes that are clipped or clamped."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.boxes import BOXES, areas_of
from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import OtherOverlap
from detr_conformance.reference import Losses, RTDETRDetectionLoss, track
from detr_conformance.reference.boxes import IOU_EPS, Corners, corners_of_centre_form, overlap
from detr_conformance.reference.rounding import plain


class NoEps(RTDETRDetectionLoss):
    """Nothing is added to the union or the hull."""

    iou_eps = 0.0


class ClippedCorners(OtherOverlap):
    """Corners beyond the edge of the image are moved onto it."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        a, b = (corners_of_centre_form(boxes) for boxes in (pred, target))
        a, b = (Corners(np.clip(each.low, 0.0, 1.0), np.clip(each.high, 0.0, 1.0)) for each in (a, b))
        areas = overlap(a, b, a.size, b.size)
        return areas.inter / areas.union - (areas.hull - areas.union) / areas.hull


class ClampedPredictions(RTDETRDetectionLoss):
    """All four numbers of a predicted box are clamped to [0, 1] before the box losses."""

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(np.clip(pred_bboxes, 0.0, 1.0), gt_bboxes, postfix)
        inside = (pred_bboxes >= 0.0) & (pred_bboxes <= 1.0)
        return {key: loss.map_gradients(lambda by: track(plain(by) * inside)) for key, loss in losses.items()}


class EpsOnSizes(OtherOverlap):
    """Eps is added to widths and heights instead of areas."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        a, b = corners_of_centre_form(pred), corners_of_centre_form(target)
        areas = overlap(a, b, a.size + IOU_EPS, b.size + IOU_EPS, eps=0.0)
        hull = np.prod(areas.around + IOU_EPS, axis=-1)
        return areas.inter / areas.union - (hull - areas.union) / hull


class EpsAsFloor(OtherOverlap):
    """Union and hull are at least eps, instead of larger by it."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        areas = areas_of(pred, target, eps=0.0)
        union, hull = np.maximum(areas.union, IOU_EPS), np.maximum(areas.hull, IOU_EPS)
        return areas.inter / union - (hull - union) / hull


class LargerEps(RTDETRDetectionLoss):
    """Ten times as much is added to the union and the hull."""

    iou_eps = 10.0 * IOU_EPS


BOX_EPS_DEVIATIONS = (
    Deviation(
        "detr-iou-zero-union-nan",
        "BOX",
        "IoU of two boxes without area was 0 / 0, and the NaN entered loss and cost. Right under this profile: 1e-7 is "
        "added to the union and to the hull. Shows where prediction and target are the same point.",
        "facebookresearch/detr and copies; pytorch/vision, issue 3404; roboflow/rf-detr, pull request 1180",
        loss=NoEps,
    ),
    Deviation(
        "scenic-larger-eps",
        "BOX",
        "1e-6 is added to the union and to the hull. Right under this profile: 1e-7. Shows on tiny boxes, which never "
        "reach a GIoU of 1.",
        "google-research/scenic, DETR's box functions",
        loss=LargerEps,
    ),
    Deviation(
        "rfdetr-eps-as-floor",
        "BOX",
        "Union and hull are clamped to at least 1e-7, which leaves ordinary boxes exact. Right under this profile: "
        "1e-7 is added. Shows on tiny boxes.",
        "roboflow/rf-detr, pull request 1180",
        loss=EpsAsFloor,
    ),
    Deviation(
        "detrtf-boxes-clipped",
        "BOX",
        "Corners were clipped to the image before areas were taken. Right: boxes as they stand. Shows where a box "
        "reaches over the edge.",
        "Visual-Behavior/detr-tensorflow, commit 78fb71b, box functions",
        loss=ClippedCorners,
    ),
    Deviation(
        "lightly-box-sanitise-clamps-gradient",
        "BOX",
        "The four numbers of a prediction are clamped to [0, 1] before the box losses. Right under this profile: "
        "nothing is clamped. Shows on a box turned inside out, whose size becomes 0 and has no gradient.",
        "lightly-ai/lightly-train, pull request 707",
        loss=ClampedPredictions,
    ),
    Deviation(
        "plausible-eps-on-sizes",
        "BOX",
        "1e-7 is added to widths and heights. Right: to the union and the hull. Shows on tiny boxes.",
        BOXES,
        loss=EpsOnSizes,
    ),
)
