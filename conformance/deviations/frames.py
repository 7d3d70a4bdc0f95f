"""Frames for deviations: a wrong step is written down once, as a value, and its gradient follows by differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import over
from detr_conformance.reference import FocalLoss, Loss, Losses, RTDETRDetectionLoss, Tracked, VarifocalLoss, track
from detr_conformance.reference.classification import Terms
from detr_conformance.reference.loss_value import loss_of
from detr_conformance.reference.rounding import plain

STEP = 2.0**-20
"""Half the distance of the two points of a difference: far below any box or logit, far above rounding in float64."""


def row_slopes(measure: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> Tracked:
    """Derivative of a measure, one number for each row, by every entry of the row."""
    with np.errstate(all="ignore"):
        steps = STEP * np.eye(rows.shape[-1])
        slopes = [(measure(rows + step) - measure(rows - step)) / (2.0 * STEP) for step in steps]
    return track(np.stack(slopes, axis=-1))


def entry_slopes(terms: Callable[[np.ndarray], np.ndarray], entries: np.ndarray) -> Tracked:
    """Derivative of each term by the entry that it belongs to."""
    with np.errstate(all="ignore"):
        return track((terms(entries + STEP) - terms(entries - STEP)) / (2.0 * STEP))


def summed(measure: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, name: str = "pred_bboxes") -> Loss:
    """The sum of a measure over all rows, as a loss with its gradient by the rows."""
    with np.errstate(all="ignore"):
        value = np.sum(measure(rows))
    return loss_of(track(value), {name: row_slopes(measure, rows)})


def placed(loss: Loss, where: Any, lead: Sequence[int]) -> Loss:
    """A loss of some predictions as one of all: the first entry of its gradients moved to `where` of these axes."""

    def whole(gradient: Tracked) -> Tracked:
        everywhere = np.zeros((*lead, gradient.shape[-1]))
        everywhere[where] = plain(gradient)[0]
        return track(everywhere)

    return loss.map_gradients(whole)


class OtherDistance(RTDETRDetectionLoss):
    """The L1 loss is made of another distance of each pair."""

    def _distance(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        """One number for each pair."""
        raise NotImplementedError

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix)
        distance = summed(lambda boxes: self._distance(boxes, gt_bboxes), pred_bboxes)
        losses[f"loss_bbox{postfix}"] = distance * self.loss_gain["bbox"] / max(len(gt_bboxes), 1)
        return losses


class OtherOverlap(RTDETRDetectionLoss):
    """The GIoU loss is made of another measure of each pair."""

    def _giou(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        """One number for each pair."""
        raise NotImplementedError

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix)
        apart = summed(lambda boxes: 1.0 - self._giou(boxes, gt_bboxes), pred_bboxes)
        losses[f"loss_giou{postfix}"] = apart * self.loss_gain["giou"] / max(len(gt_bboxes), 1)
        return losses


class OtherFocal(FocalLoss):
    """Focal loss whose terms are other ones."""

    def slopes(self, x: Terms, y: Terms) -> Terms:
        """Of whatever the terms are."""
        return entry_slopes(lambda logits: self.terms(logits, y), plain(x))


class OtherVarifocal(VarifocalLoss):
    """Varifocal loss whose terms are other ones."""

    def slopes(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """Of whatever the terms are."""
        return entry_slopes(lambda logits: self.terms(logits, plain(q), y), plain(x))


def with_focal(kind: type[FocalLoss]) -> type[RTDETRDetectionLoss]:
    """The loss with another focal loss."""

    class Loss(RTDETRDetectionLoss):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.focal = over(kind, type(self.focal))(self.focal.gamma, self.focal.alpha)

    return Loss


def with_varifocal(kind: type[VarifocalLoss]) -> type[RTDETRDetectionLoss]:
    """The loss with another varifocal loss."""

    class Loss(RTDETRDetectionLoss):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.varifocal = over(kind, type(self.varifocal))(self.varifocal.gamma, self.varifocal.alpha)

    return Loss
