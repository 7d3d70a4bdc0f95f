"""Deviations in the GIoU loss: corners, areas, and which measure it is."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import OtherOverlap
from detr_conformance.reference import Losses, RTDETRDetectionLoss, bbox_iou, giou_gradient, track
from detr_conformance.reference.boxes import IOU_EPS, Overlap, corners_of_centre_form, overlap
from detr_conformance.reference.loss_value import loss_of
from detr_conformance.reference.rounding import plain

BOXES = "loss specification, Boxes"


def areas_of(pred: np.ndarray, target: np.ndarray, eps: float = IOU_EPS) -> Overlap:
    """Intersection, union and hull of each pair, as the reference has them."""
    a, b = corners_of_centre_form(pred), corners_of_centre_form(target)
    return overlap(a, b, a.size, b.size, eps)


class CIoUForGIoU(OtherOverlap):
    """The box loss is 1 - CIoU."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return bbox_iou(pred, target, CIoU=True)[..., 0]


class IoUForGIoU(OtherOverlap):
    """The box loss is 1 - IoU."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return bbox_iou(pred, target)[..., 0]


class WeightedByItself(RTDETRDetectionLoss):
    """The GIoU loss of each pair is weighted by its GIoU, a constant."""

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses, weight = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix), self.loss_gain["giou"]
        giou = plain(bbox_iou(track(pred_bboxes), track(gt_bboxes), GIoU=True))
        slopes = -giou_gradient(track(pred_bboxes), track(gt_bboxes)) * giou
        apart = loss_of(np.sum(track(giou) * (1.0 - giou)), {"pred_bboxes": slopes})
        return losses | {f"loss_giou{postfix}": apart * weight / max(len(gt_bboxes), 1)}


class SwappedGap(OtherOverlap):
    """The empty share of the hull is added."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        areas = areas_of(pred, target)
        return areas.inter / areas.union - (areas.union - areas.hull) / areas.hull


class SumForUnion(OtherOverlap):
    """The union counts the intersection twice."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        areas = areas_of(pred, target)
        union = areas.union + areas.inter
        return areas.inter / union - (areas.hull - union) / areas.hull


class NegativeOverlap(OtherOverlap):
    """Sides of the intersection may be negative, and two negative ones make an area."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        areas, a, b = areas_of(pred, target), corners_of_centre_form(pred), corners_of_centre_form(target)
        inter = np.prod(np.minimum(a.high, b.high) - np.maximum(a.low, b.low), axis=-1)
        union = areas.union + areas.inter - inter
        return inter / union - (areas.hull - union) / areas.hull


class SidesSwapped(OtherOverlap):
    """Height is taken for width, and width for height."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        order = [0, 1, 3, 2]
        return bbox_iou(pred[:, order], target[:, order], GIoU=True)[..., 0]


class WidthForHeight(OtherOverlap):
    """Every box is as high as it is wide."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        order = [0, 1, 2, 2]
        return bbox_iou(pred[:, order], target[:, order], GIoU=True)[..., 0]


class ReadAsCorners(OtherOverlap):
    """Centre and size are taken for two corners."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return bbox_iou(pred, target, xywh=False, GIoU=True)[..., 0]


BOX_DEVIATIONS = (
    Deviation(
        "khub-ciou-for-giou",
        "BOX",
        "keras-hub's D-FINE (0.32.0) computes CIoU where GIoU is meant. Right: IoU - (hull - union) / hull. Shows on "
        "any two boxes of different shape.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        loss=CIoUForGIoU,
    ),
    Deviation(
        "rtdetrv2-giou-weighted-by-itself",
        "BOX",
        "With boxes_weight_format='giou' each 1 - GIoU is multiplied by the GIoU, and the loss can be negative. Right: "
        "no weight. Shows where prediction and target do not touch.",
        "lyuwenyu/RT-DETR, rtdetrv2_pytorch, rtdetrv2_criterion.py",
        loss=WeightedByItself,
    ),
    Deviation(
        "plausible-hull-minus-union-swapped",
        "BOX",
        "GIoU is IoU - (union - hull) / hull, which rewards distance. Right: IoU - (hull - union) / hull. Shows on any "
        "two boxes.",
        BOXES,
        loss=SwappedGap,
    ),
    Deviation(
        "plausible-union-without-subtraction",
        "BOX",
        "The union is the sum of the two areas. Right: less the intersection. Shows where boxes overlap.",
        BOXES,
        loss=SumForUnion,
    ),
    Deviation(
        "plausible-negative-overlap",
        "BOX",
        "The sides of the intersection are not held at 0 or more: boxes apart along both axes overlap by the product "
        "of two negative sides. Right: 0. Shows on boxes apart.",
        BOXES,
        loss=NegativeOverlap,
    ),
    Deviation(
        "plausible-iou-for-giou",
        "BOX",
        "The box loss is 1 - IoU, which says nothing where boxes do not overlap. Right: 1 - GIoU. Shows on any two "
        "boxes.",
        BOXES,
        loss=IoUForGIoU,
    ),
    Deviation(
        "plausible-width-and-height-swapped",
        "BOX",
        "Corners are made with the height along x and the width along y. Right: half the width along x. Shows on boxes "
        "that are not square.",
        BOXES,
        loss=SidesSwapped,
    ),
    Deviation(
        "plausible-centre-form-read-as-corners",
        "BOX",
        "Boxes in centre form are read as left, top, right, bottom. Right: corners from the centre and half the size. "
        "Shows on any box.",
        BOXES,
        loss=ReadAsCorners,
    ),
    Deviation(
        "plausible-width-for-height",
        "INV",
        "A wrong index takes the width for the height too. Right: each its own. Shows when the image is reflected "
        "along its diagonal.",
        BOXES,
        loss=WidthForHeight,
    ),
)
