"""Deviations in the L1 loss, and in what a batch without a pair gives."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import OtherDistance, OtherOverlap
from detr_conformance.reference import Losses, RTDETRDetectionLoss, bbox_iou
from detr_conformance.reference.boxes import corners_of_centre_form, l1_distance

STEP_5 = "loss specification, DETRLoss, step 5"


def corner_form(boxes: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom."""
    corners = corners_of_centre_form(boxes)
    return np.concatenate([corners.low, corners.high], axis=-1)


class CornerTargets(OtherDistance):
    """The L1 loss holds predictions in centre form against targets in corner form."""

    def _distance(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return l1_distance(pred, corner_form(target)).sum(axis=-1)


class CornerDistance(OtherDistance):
    """The L1 loss is taken of corners."""

    def _distance(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return l1_distance(corner_form(pred), corner_form(target)).sum(axis=-1)


class MeanOfFour(OtherDistance):
    """The L1 loss is averaged over the four numbers."""

    def _distance(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return l1_distance(pred, target).mean(axis=-1)


class SmoothDistance(OtherDistance):
    """The L1 loss is quadratic below 1, which is everywhere."""

    def _distance(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        distance = l1_distance(pred, target)
        return np.where(distance < 1.0, distance**2 / 2.0, distance - 0.5).sum(axis=-1)


class NegativeGIoU(OtherOverlap):
    """The GIoU loss is -GIoU."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return 1.0 + bbox_iou(pred, target, GIoU=True)[..., 0]


class MeanOfNothing(RTDETRDetectionLoss):
    """The box losses are means over the pairs, also where there is none."""

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix)
        return losses if len(gt_bboxes) else {key: loss * np.nan for key, loss in losses.items()}


REGRESSION_DEVIATIONS = (
    Deviation(
        "netspresso-l1-on-corner-boxes",
        "REG",
        "The L1 loss compared predictions in centre form with targets in corner form. Right: the same form on both "
        "sides. Shows on perfect predictions: loss_bbox is not 0 while loss_giou is.",
        "Nota-NetsPresso/netspresso-trainer, commit ceba052c",
        loss=CornerTargets,
    ),
    Deviation(
        "scenic-l1-on-corners",
        "REG",
        "The L1 loss is taken of left, top, right and bottom, while the matching cost takes centre and size. Right: "
        "centre form in both. Shows on boxes of different size.",
        "google-research/scenic, commit 4a38d47, DETR's loss",
        loss=CornerDistance,
    ),
    Deviation(
        "detrtf-mean-of-nothing",
        "REG",
        "The box losses were divided by the number of pairs even where it was 0. Right: zeros. Shows in a batch "
        "without targets: NaN.",
        "Visual-Behavior/detr-tensorflow, commit 78fb71b, box losses",
        loss=MeanOfNothing,
    ),
    Deviation(
        "plausible-l1-averaged-over-coordinates",
        "REG",
        "The L1 loss is a mean over all numbers, which divides by 4 as well. Right: the sum over the four numbers of a "
        "box. Shows on any pair.",
        STEP_5,
        loss=MeanOfFour,
    ),
    Deviation(
        "plausible-smooth-l1",
        "REG",
        "The smooth L1 loss takes the place of L1: half the square of every difference below 1. Right: the absolute "
        "difference. Shows on any pair.",
        STEP_5,
        loss=SmoothDistance,
    ),
    Deviation(
        "plausible-minus-giou",
        "REG",
        "The GIoU loss is -GIoU, as some matchers write the cost. Right: 1 - GIoU. Shows on any pair; gradients are "
        "the same.",
        STEP_5,
        loss=NegativeGIoU,
    ),
)
