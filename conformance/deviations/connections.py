"""Deviations in what a loss has a gradient by, and where: values are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import row_slopes
from detr_conformance.reference import Loss, Losses, Matching, RTDETRDetectionLoss, Tracked, track
from detr_conformance.reference.rounding import plain


def matching_of(loss: RTDETRDetectionLoss, args: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Matching]:
    """The matching that the loss of one layer uses, given or its own."""
    given: Sequence[Matching] | None = options.get("match_indices")
    return loss.matcher(*args) if given is None else given


class FirstQueriesMoved(RTDETRDetectionLoss):
    """The gradient of an image's k-th pair goes to query k."""

    def _get_loss(self, *args: Any, **options: Any) -> Losses:
        losses, matching = super()._get_loss(*args, **options), matching_of(self, args, options)
        (images, queries), _ = self._get_index(matching)
        rows = np.concatenate([np.arange(len(own)) for own, _ in matching])

        def moved(gradient: Tracked) -> Tracked:
            whole = np.zeros(gradient.shape)
            whole[images, rows] = plain(gradient)[images, queries]
            return track(whole)

        return {key: loss if "class" in key else loss.map_gradients(moved) for key, loss in losses.items()}


class CostDifferentiated(RTDETRDetectionLoss):
    """The class cost of the matched pairs pulls at the logits through the L1 loss."""

    def _get_loss(self, *args: Any, **options: Any) -> Losses:
        losses, (_, logits, _, gt_cls, _) = super()._get_loss(*args, **options), args
        if options.get("match_indices") is not None:
            return losses
        (images, queries), targets = self._get_index(self.matcher(*args))

        def cost(rows: np.ndarray) -> np.ndarray:
            return self.matcher.focal_class_cost(rows, gt_cls[targets]).diagonal()

        whole = np.zeros(logits.shape)
        whole[images, queries] = plain(row_slopes(cost, logits[images, queries]))
        key = f"loss_bbox{options.get('postfix', '')}"
        return losses | {key: Loss(losses[key].value, {**losses[key].gradients, "pred_scores": track(whole)})}


class ScoreDifferentiated(RTDETRDetectionLoss):
    """The IoU that serves as target score is differentiated."""

    def _get_loss(self, *args: Any, **options: Any) -> Losses:
        losses, (boxes, logits, gt_bboxes, gt_cls, _) = super()._get_loss(*args, **options), args
        (images, queries), targets = self._get_index(matching_of(self, args, options))
        if self.use_fl and not self._uses_varifocal(len(targets)):
            return losses
        pred, target, x = boxes[images, queries], gt_bboxes[targets], logits[images, queries, gt_cls[targets]]

        def score(rows: np.ndarray) -> np.ndarray:
            return plain(self._target_scores(rows, target))

        with np.errstate(all="ignore"):
            q, divisor = score(pred), len(targets) if self.use_fl else logits.shape[1]
            # d/dq of q BCE(x, q), or of BCE(x, q) alone, which is -x.
            by_score = np.maximum(x, 0.0) - 2.0 * q * x + np.log1p(np.exp(-np.abs(x))) if self.use_fl else -x
            whole = np.zeros(boxes.shape)
            whole[images, queries] = by_score[:, None] * plain(row_slopes(score, pred))
            slopes = track(whole * self.loss_gain["class"] / divisor)
        key = f"loss_class{options.get('postfix', '')}"
        return losses | {key: Loss(losses[key].value, {**losses[key].gradients, "pred_bboxes": slopes})}


class DetachedEncoderBoxes(RTDETRDetectionLoss):
    """The boxes of the first layer, the encoder's proposals, carry no gradient."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        losses = super()._get_loss_aux(*args, **options)
        for loss in losses.values():
            if "pred_bboxes" in loss.gradients:
                loss.gradients["pred_bboxes"][0] = 0.0
        return losses


class DetachedAuxiliary(RTDETRDetectionLoss):
    """The auxiliary losses have no gradient."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        return {key: Loss(loss.value) for key, loss in super()._get_loss_aux(*args, **options).items()}


class DetachedDenoising(RTDETRDetectionLoss):
    """The denoising losses have no gradient."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """Values alone."""
        losses = super().forward(*args, **options)
        return {key: Loss(loss.value) if "_dn" in key else loss for key, loss in losses.items()}


CONNECTION_DEVIATIONS = (
    Deviation(
        "hf-lwdetr-enc-coords-detached",
        "GRAD",
        "The encoder's proposal boxes were detached before the loss, which therefore had no gradient by them. Right: "
        "detach only the copy that the decoder refines. Values are equal; only gradients show it.",
        "huggingface/transformers, pull request 44441",
        loss=DetachedEncoderBoxes,
    ),
    Deviation(
        "plausible-aux-detached",
        "GRAD",
        "The auxiliary losses are computed without gradients, as if they were for the log alone. Right: they train "
        "every layer. Values are equal.",
        "loss specification, DETRLoss, forward",
        loss=DetachedAuxiliary,
    ),
    Deviation(
        "plausible-denoising-detached",
        "GRAD",
        "The denoising losses are computed without gradients. Right: they train the denoising queries. Values are "
        "equal.",
        "loss specification, RTDETRDetectionLoss",
        loss=DetachedDenoising,
    ),
    Deviation(
        "plausible-target-score-differentiated",
        "CLASS",
        "The IoU that serves as target score is not detached, and the classification loss moves boxes. Right: the "
        "score is a constant. Values are equal.",
        "loss specification, DETRLoss, step 3: detached",
        loss=ScoreDifferentiated,
    ),
    Deviation(
        "plausible-matching-differentiated",
        "GRAD",
        "The matched costs are added to the L1 loss and subtracted again as a constant, so that logits have a gradient "
        "by it. Right: nothing of the matcher carries a gradient. Values are equal.",
        "loss specification, HungarianMatcher: nothing of it carries a gradient",
        loss=CostDifferentiated,
    ),
    Deviation(
        "plausible-gradient-of-other-queries",
        "GRAD",
        "The backward pass writes the gradient of the k-th pair of an image into its query k. Right: into the query "
        "that was matched. Shows with more queries than targets.",
        "loss specification, DETRLoss, step 5: matched pairs",
        loss=FirstQueriesMoved,
    ),
)
