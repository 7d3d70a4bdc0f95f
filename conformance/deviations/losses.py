"""Deviations in the terms of the loss: what is computed for a given matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import FocalLoss, Losses, Matching, RTDETRDetectionLoss, bbox_iou, giou_gradient
from detr_conformance.reference.boxes import l1_distance, l1_gradient
from detr_conformance.reference.classification import Terms
from detr_conformance.reference.loss_value import loss_of
from detr_conformance.reference.rounding import plain, track


class CIoUForGIoU(RTDETRDetectionLoss):
    """The box loss is 1 - CIoU."""

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix)
        pred, target = track(pred_bboxes), track(gt_bboxes)
        apart = np.sum(1.0 - bbox_iou(pred, target, CIoU=True))
        slope = {"pred_bboxes": -giou_gradient(pred, target)}
        losses[f"loss_giou{postfix}"] = loss_of(apart, slope) * self.loss_gain["giou"] / max(len(gt_bboxes), 1)
        return losses


class CornerTargets(RTDETRDetectionLoss):
    """The L1 loss holds predictions in centre form against targets in corner form."""

    def _get_loss_bbox(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray, postfix: str = "") -> Losses:
        losses = super()._get_loss_bbox(pred_bboxes, gt_bboxes, postfix)
        half = gt_bboxes[:, 2:] / 2
        corners = np.concatenate([gt_bboxes[:, :2] - half, gt_bboxes[:, :2] + half], axis=1)
        pred, target = track(pred_bboxes), track(corners)
        distance = loss_of(np.sum(l1_distance(pred, target)), {"pred_bboxes": l1_gradient(pred, target)})
        losses[f"loss_bbox{postfix}"] = distance * self.loss_gain["bbox"] / max(len(gt_bboxes), 1)
        return losses


class NeverVarifocal(RTDETRDetectionLoss):
    """The IoU is thrown away after it was computed, and the varifocal loss becomes focal."""

    def _uses_varifocal(self, num_gts: int) -> bool:  # noqa: ARG002  # the step's signature
        return False


class DetachedEncoderBoxes(RTDETRDetectionLoss):
    """The boxes of the first layer, the encoder's proposals, carry no gradient."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        losses = super()._get_loss_aux(*args, **options)
        for loss in losses.values():
            if "pred_bboxes" in loss.gradients:
                loss.gradients["pred_bboxes"][0] = 0.0
        return losses


class SaturatingFocalLoss(FocalLoss):
    """Cross-entropy by the logarithm of a probability that float32 has rounded to 0 or 1."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """Focal terms with -log(p_t) where p_t may be 0."""
        with np.errstate(all="ignore"):
            p = 1.0 / (1.0 + np.exp(-np.asarray(plain(x), dtype=np.float32)))
            truth = np.where(plain(y) == 1, p, np.float32(1.0) - p)
            wrong = -np.log(truth) * (1.0 - truth) ** np.float32(self.gamma)
        return track(wrong * plain(self._balance(y)))


class LogOfSaturatedSigmoid(RTDETRDetectionLoss):
    """The classification loss takes the logarithm of a saturated sigmoid."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the fragile focal loss."""
        super().__init__(*args, **options)
        self.focal = SaturatingFocalLoss(self.focal.gamma, self.focal.alpha)


class NoDenoisingKeysWithoutTargets(RTDETRDetectionLoss):
    """A batch without targets has other keys than one with targets."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference, but a rank whose images are all empty reports no denoising losses."""
        losses, (_, batch, *_) = super().forward(*args, **options), args
        return losses if sum(batch["gt_groups"]) else {key: loss for key, loss in losses.items() if "_dn" not in key}


class OffsetForgotten(RTDETRDetectionLoss):
    """Target indices count within each image, and are used on the targets of the whole batch."""

    def _match(self, *args: Any) -> Sequence[Matching]:
        matching = super()._match(*args)
        gt_groups = args[4]
        return [(queries, targets - sum(gt_groups[:image])) for image, (queries, targets) in enumerate(matching)]


class DoubleSlicedAuxiliaryLayers(RTDETRDetectionLoss):
    """The last auxiliary layer is dropped, by a helper that slices although its caller already did."""

    def _get_loss_aux(self, pred_bboxes: np.ndarray, pred_scores: np.ndarray, *args: Any, **options: Any) -> Losses:
        losses = super()._get_loss_aux(pred_bboxes[:-1], pred_scores[:-1], *args, **options)

        def padded(gradient: Any) -> Any:
            return np.concatenate([gradient, np.zeros_like(gradient[:1])])

        return {key: loss.map_gradients(padded) for key, loss in losses.items()}


LOSS_DEVIATIONS = (
    Deviation(
        "khub-ciou-for-giou",
        "BOX",
        "keras-hub's D-FINE (0.32.0) computes CIoU where GIoU is meant. Right: IoU - (hull - union) / hull. "
        "Shows on any two boxes of different shape.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        loss=CIoUForGIoU,
    ),
    Deviation(
        "netspresso-l1-on-corner-boxes",
        "REG",
        "The L1 loss compared predictions in centre form with targets in corner form. Right: the same form "
        "on both sides. Shows on perfect predictions: loss_bbox is not 0 while loss_giou is.",
        "Nota-NetsPresso/netspresso-trainer, commit ceba052c",
        loss=CornerTargets,
    ),
    Deviation(
        "paddle-vfl-dangling-else",
        "CLASS",
        "A dangling else reset the IoU after it was computed, so that the varifocal loss was silently the "
        "focal one. Right: if / elif / else. Shows on any matched query.",
        "PaddlePaddle/PaddleDetection, pull request 8409",
        loss=NeverVarifocal,
    ),
    Deviation(
        "hf-aux-sliced-twice",
        "AUX",
        "A helper that drops the last layer was imported where the caller had dropped it already: one "
        "auxiliary layer was lost. Right: L - 1 auxiliary terms. Shows in the sum over layers.",
        "huggingface/transformers 4.46.3 to 4.48.3, loss/loss_rt_detr.py",
        loss=DoubleSlicedAuxiliaryLayers,
    ),
    Deviation(
        "khub-missing-target-offset",
        "INV",
        "Target indices of each image were used on the concatenated targets without the image's offset: "
        "later images were supervised by the first one's targets. Right: add the offset. Shows in a batch "
        "of two.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        loss=OffsetForgotten,
    ),
    Deviation(
        "hf-lwdetr-enc-coords-detached",
        "GRAD",
        "The encoder's proposal boxes were detached before the loss, which therefore had no gradient by "
        "them. Right: detach only the copy that the decoder refines. Values are equal; only gradients show "
        "it.",
        "huggingface/transformers, pull request 44441",
        loss=DetachedEncoderBoxes,
    ),
    Deviation(
        "rfdetr-log-of-saturated-sigmoid",
        "NUM",
        "Cross-entropy was written as -log(p) with p rounded to 0 or 1. Right: the log-sigmoid form. Shows "
        "beyond logits of 17 in float32.",
        "roboflow/rf-detr, pull request 138",
        loss=LogOfSaturatedSigmoid,
    ),
    Deviation(
        "rtdetr-empty-rank-hangs",
        "API",
        "A rank without targets had no denoising losses, so that ranks disagreed on the keys and hung. "
        "Right: the same keys, zero. Shows in a batch without targets.",
        "lyuwenyu/RT-DETR, issues 529 and 672, pull request 684",
        loss=NoDenoisingKeysWithoutTargets,
    ),
)
