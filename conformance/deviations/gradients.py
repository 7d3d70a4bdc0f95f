"""Deviations in backward passes: values are right, and a derivative is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detr_conformance.deviations.boxes import areas_of
from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import row_slopes, with_focal, with_varifocal
from detr_conformance.properties.profiles import DetachedVarifocalLoss
from detr_conformance.reference import FocalLoss, Loss, Losses, RTDETRDetectionLoss, track
from detr_conformance.reference.classification import Terms, cross_entropy_slope
from detr_conformance.reference.rounding import plain

STEP_4 = "loss specification, DETRLoss, step 4"
STEP_5 = "loss specification, DETRLoss, step 5"


class DetachedFading(FocalLoss):
    """The factor with gamma is a constant."""

    def slopes(self, x: Terms, y: Terms) -> Terms:
        """Of the cross-entropy alone."""
        return self._balance(y) * (1.0 - self._truth(x, y)) ** self.gamma * cross_entropy_slope(x, y)


class InfiniteFading(FocalLoss):
    """The derivative of (1 - p_t)^gamma is infinite where p_t has been rounded to 1, and multiplied by 0."""

    def slopes(self, x: Terms, y: Terms) -> Terms:
        """NaN there, for a gamma between 0 and 1."""
        right = plain(self._truth(x, y)).astype(np.float32) == 1.0
        return np.where(right & (0.0 < self.gamma < 1.0), np.nan, super().slopes(x, y))


def with_slopes(term: str, change: Callable[[np.ndarray], np.ndarray]) -> type[RTDETRDetectionLoss]:
    """The loss with the gradient of one of its box terms changed."""

    class Loss(RTDETRDetectionLoss):
        def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
            losses, key = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix), f"loss_{term}{postfix}"
            return losses | {key: losses[key].map_gradients(lambda by: track(change(plain(by))))}

    return Loss


class OtherSlopes(RTDETRDetectionLoss):
    """The gradient of a box term is that of something else."""

    term = "giou"

    def _slopes(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        """One for each number of each pair."""
        raise NotImplementedError

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses, key = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix), f"loss_{self.term}{postfix}"
        with np.errstate(all="ignore"):
            slopes = track(self._slopes(pred_bboxes, gt_bboxes) * self.loss_gain[self.term] / max(len(gt_bboxes), 1))
        return losses | {key: Loss(losses[key].value, {"pred_bboxes": slopes})}


class HullDetached(OtherSlopes):
    """The hull is a constant."""

    def _slopes(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        hull = areas_of(pred, target).hull

        def giou(boxes: np.ndarray) -> np.ndarray:
            areas = areas_of(boxes, target)
            return areas.inter / areas.union - (hull - areas.union) / hull

        return -plain(row_slopes(giou, pred))


class UnionDetached(OtherSlopes):
    """The union is a constant."""

    def _slopes(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        union = areas_of(pred, target).union

        def giou(boxes: np.ndarray) -> np.ndarray:
            areas = areas_of(boxes, target)
            return areas.inter / union - (areas.hull - union) / areas.hull

        return -plain(row_slopes(giou, pred))


class SquaredSlopes(OtherSlopes):
    """The gradient of the L1 loss is that of half the square."""

    term = "bbox"

    def _slopes(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return pred - target


class GainNotInBackward(OtherSlopes):
    """The backward pass of the L1 loss leaves out its gain."""

    term = "bbox"

    def _slopes(self, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.sign(pred - target) / self.loss_gain["bbox"]


GRADIENT_DEVIATIONS = (
    Deviation(
        "ul-focal-gradient-nan",
        "GRAD",
        "The derivative of (1 - p_t)^gamma is infinite where p_t has been rounded to 1, and was multiplied by 0: NaN. "
        "Right: the limit, 0. Shows for a gamma between 0 and 1 and a logit that is surely right.",
        "ultralytics/ultralytics 8.4.190, docs/findings.md; google-deepmind/optax, issue 1267, pull request 1346",
        loss=with_focal(InfiniteFading),
    ),
    Deviation(
        "plausible-focal-weight-detached",
        "GRAD",
        "The factor (1 - p_t)^gamma is a constant. Right: it is differentiated. Values are equal; only gradients show "
        "it.",
        f"{STEP_4}: focal",
        loss=with_focal(DetachedFading),
    ),
    Deviation(
        "plausible-vfl-weight-detached",
        "GRAD",
        "The weight alpha p^gamma is a constant, as in lyuwenyu/RT-DETR. Right under this profile: it is "
        "differentiated through p. Values are equal; only gradients show it.",
        f"{STEP_4}: varifocal; ultralytics/ultralytics, pull request 23152, closed",
        loss=with_varifocal(DetachedVarifocalLoss),
    ),
    Deviation(
        "plausible-hull-not-differentiated",
        "GRAD",
        "The backward pass of GIoU leaves out the hull's own change. Right: the quotient rule. Shows where the "
        "prediction bounds the hull.",
        f"{STEP_5}: loss_giou",
        loss=HullDetached,
    ),
    Deviation(
        "plausible-union-not-differentiated",
        "GRAD",
        "The backward pass of GIoU leaves out the union's own change. Right: the quotient rule. Shows on any pair.",
        f"{STEP_5}: loss_giou",
        loss=UnionDetached,
    ),
    Deviation(
        "plausible-giou-gradient-negated",
        "GRAD",
        "The backward pass returns the derivative of GIoU. Right: that of 1 - GIoU. Shows on any pair.",
        f"{STEP_5}: loss_giou",
        loss=with_slopes("giou", lambda by: -by),
    ),
    Deviation(
        "plausible-l1-gradient-of-square",
        "GRAD",
        "The backward pass of the L1 loss returns the difference. Right: its sign. Shows on any pair.",
        f"{STEP_5}: loss_bbox",
        loss=SquaredSlopes,
    ),
    Deviation(
        "plausible-gain-not-in-backward",
        "GRAD",
        "The backward pass of the L1 loss leaves out the gain, or what came from above. Right: everything that "
        "multiplies the value. Shows with a gain other than 1.",
        f"{STEP_5}: loss_bbox",
        loss=GainNotInBackward,
    ),
)
