"""Deviations in what a query is classified as: labels and target scores."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import summed
from detr_conformance.reference import Losses, RTDETRDetectionLoss, bbox_iou
from detr_conformance.reference.rounding import plain

STEP_3 = "loss specification, DETRLoss, step 3"
STEP_4 = "loss specification, DETRLoss, step 4"


class BackgroundIsLastClass(RTDETRDetectionLoss):
    """The number of the background is nc - 1."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        return super()._get_loss_class(pred_scores, np.minimum(targets, self.nc - 1), gt_scores, num_gts, postfix)


class LabelsFromOne(RTDETRDetectionLoss):
    """The column of each class is that of the next one; the last class has none."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        return super()._get_loss_class(pred_scores, np.minimum(targets + 1, self.nc), gt_scores, num_gts, postfix)


class SoftmaxCrossEntropy(RTDETRDetectionLoss):
    """Without use_fl the classes of a query share one probability."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        if self.use_fl:
            return super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, postfix)
        score = plain(gt_scores)[..., None] * (targets[..., None] == np.arange(self.nc))
        loss = summed(lambda logits: -np.sum(score * log_softmax(logits), axis=-1), pred_scores, "pred_scores")
        return {f"loss_class{postfix}": loss * self.loss_gain["class"] / pred_scores.shape[1]}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of each class's share."""
    below = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=-1, keepdims=True)))


class HardLabels(RTDETRDetectionLoss):
    """Without use_fl the cross-entropy is taken against the label."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        scores = gt_scores if self.use_fl else np.ones_like(plain(gt_scores))
        return super()._get_loss_class(pred_scores, targets, scores, num_gts, postfix)


class GIoUScores(RTDETRDetectionLoss):
    """The target score is the GIoU."""

    def _target_scores(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray) -> np.ndarray:
        return bbox_iou(pred_bboxes, gt_bboxes, GIoU=True, eps=self.iou_eps)[..., 0]


class ScoresOfOtherPairs(RTDETRDetectionLoss):
    """The target score is the IoU with the target of the next pair."""

    def _target_scores(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray) -> np.ndarray:
        return super()._target_scores(pred_bboxes, np.roll(gt_bboxes, -1, axis=0))


CLASSIFICATION_DEVIATIONS = (
    Deviation(
        "plausible-background-is-last-class",
        "CLASS",
        "The background has the number nc - 1, which is that of the last class. Right: nc. Shows with any query "
        "without a target.",
        f"{STEP_3}: target class",
        loss=BackgroundIsLastClass,
    ),
    Deviation(
        "plausible-labels-from-one",
        "CLASS",
        "Labels are read as if they counted from 1 as in an annotation file. Right: class 0 is the first column. Shows "
        "on any matched query.",
        f"{STEP_3}: target class",
        loss=LabelsFromOne,
    ),
    Deviation(
        "plausible-softmax-cross-entropy",
        "CLASS",
        "The cross-entropy is that of a softmax over the classes. Right: every class is a binary problem of its own. "
        "Shows in the background, which has no share in it.",
        f"{STEP_4}: not use_fl",
        loss=SoftmaxCrossEntropy,
    ),
    Deviation(
        "plausible-bce-hard-labels",
        "CLASS",
        "The cross-entropy is taken against the label, as in lyuwenyu/RT-DETR's loss_labels_bce. Right under this "
        "profile: against the IoU. Shows on any matched query.",
        f"{STEP_4}: not use_fl",
        loss=HardLabels,
    ),
    Deviation(
        "plausible-giou-as-score",
        "CLASS",
        "The target score is the GIoU. Right: the IoU, which is never below 0. Shows on any matched query.",
        f"{STEP_3}: target score",
        loss=GIoUScores,
    ),
    Deviation(
        "plausible-scores-of-other-pairs",
        "CLASS",
        "Predictions and targets come in different orders when their IoU is taken. Right: pair by pair. Shows with two "
        "targets.",
        f"{STEP_3}: target score",
        loss=ScoresOfOtherPairs,
    ),
)
