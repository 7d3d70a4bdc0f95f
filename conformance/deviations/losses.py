"""Deviations in what a loss is made of as a program: precision and keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import FocalLoss, Losses, RTDETRDetectionLoss
from detr_conformance.reference.classification import Terms
from detr_conformance.reference.rounding import plain, track


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


LOSS_DEVIATIONS = (
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
