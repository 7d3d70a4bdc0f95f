"""Deviations in the terms of the focal loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import OtherFocal, with_focal
from detr_conformance.reference import FocalLoss, Losses, RTDETRDetectionLoss
from detr_conformance.reference.classification import Terms, binary_cross_entropy, sigmoid

FORMULA = "loss specification, DETRLoss, step 4: focal"


class ConstantAlpha(FocalLoss):
    """Alpha weighs the background too."""

    def _balance(self, y: Terms) -> Terms:
        return np.full_like(y, self.alpha)


class SwappedAlpha(FocalLoss):
    """Alpha weighs the background, and its complement the target."""

    def _balance(self, y: Terms) -> Terms:
        return super()._balance(1.0 - y)


class NegativeAlpha(FocalLoss):
    """A negative alpha is used like any other."""

    def _balance(self, y: Terms) -> Terms:
        return self.alpha * y + (1.0 - self.alpha) * (1.0 - y)


class FadingWrong(OtherFocal):
    """Wrong answers fade out."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """With p_t where 1 - p_t belongs."""
        return self._balance(y) * self._truth(x, y) ** self.gamma * binary_cross_entropy(x, y)


class FadingLikely(OtherFocal):
    """Terms fade by their probability, whether it is right or wrong."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """With p where p_t belongs."""
        return self._balance(y) * sigmoid(-x) ** self.gamma * binary_cross_entropy(x, y)


class ShiftedArguments(RTDETRDetectionLoss):
    """Alpha is taken for the number of boxes, and gamma for alpha."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the focal loss so built."""
        super().__init__(*args, **options)
        self.boxes = self.focal.alpha
        self.focal = FocalLoss(gamma=2.0, alpha=self.focal.gamma)

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        losses = super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, postfix)
        if not self.use_fl or self._uses_varifocal(num_gts):
            return losses
        return {key: loss * max(num_gts, 1) / self.boxes for key, loss in losses.items()}


FOCAL_DEVIATIONS = (
    Deviation(
        "hf-focal-argument-shift",
        "CLASS",
        "The focal loss was called by position with one argument missing: alpha was taken for the number of boxes, "
        "gamma for alpha, and gamma was its default, 2. Right: keyword arguments. Shows in any focal loss.",
        "huggingface/transformers 4.44.2 to 5.23.0, RTDetrLoss.loss_labels_focal, pull request 32658",
        loss=ShiftedArguments,
    ),
    Deviation(
        "rtdetrv3-focal-constant-alpha",
        "CLASS",
        "Alpha weighed target and background alike. Right: alpha for the target's class, 1 - alpha for the others. "
        "Shows for any alpha but 0.5.",
        "yyq19990828/RT-DETRv3-PyTorch, commit 77920d2, focal loss of the criterion",
        loss=with_focal(ConstantAlpha),
    ),
    Deviation(
        "plausible-focal-alpha-swapped",
        "CLASS",
        "Alpha weighs the background and 1 - alpha the target. Right: the other way round. Shows for any alpha but "
        "0.5.",
        FORMULA,
        loss=with_focal(SwappedAlpha),
    ),
    Deviation(
        "plausible-focal-negative-alpha",
        "CLASS",
        "A negative alpha, which asks for no balance, makes the terms of the targets negative. Right: no factor at all "
        "where alpha is 0 or less. Shows with alpha = -1.",
        FORMULA,
        loss=with_focal(NegativeAlpha),
    ),
    Deviation(
        "plausible-focal-fades-what-is-wrong",
        "CLASS",
        "The factor is p_t to the power of gamma. Right: 1 - p_t, so that right answers fade out and not wrong ones. "
        "Shows for any gamma but 0.",
        FORMULA,
        loss=with_focal(FadingWrong),
    ),
    Deviation(
        "plausible-focal-p-for-p_t",
        "CLASS",
        "The factor is 1 - p everywhere, so that in the background the wrong answers fade out. Right: 1 - p_t, which "
        "is p there. Shows for any gamma but 0.",
        FORMULA,
        loss=with_focal(FadingLikely),
    ),
)
