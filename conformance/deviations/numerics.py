"""Deviations in precision, in extreme numbers, and in what becomes of numbers that are none."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import with_focal
from detr_conformance.reference import FocalLoss, Losses, RTDETRDetectionLoss
from detr_conformance.reference.classification import Terms
from detr_conformance.reference.loss_value import loss_of, zero_loss
from detr_conformance.reference.rounding import plain, track


class SaturatingFocalLoss(FocalLoss):
    """Cross-entropy by the logarithm of a probability that float32 has rounded to 0 or 1."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """Focal terms with -log(p_t) where p_t may be 0."""
        truth = self._rounded_truth(x, y)
        with np.errstate(all="ignore"):
            wrong = -np.log(truth) * (1.0 - truth) ** np.float32(self.gamma)
            return track(wrong * plain(self._balance(y)))

    def slopes(self, x: Terms, y: Terms) -> Terms:
        """NaN where p_t is 0: autograd multiplies the infinite slope of the logarithm by that of the sigmoid, 0."""
        return np.where(self._rounded_truth(x, y) == 0.0, np.nan, super().slopes(x, y))

    @staticmethod
    def _rounded_truth(x: Terms, y: Terms) -> np.ndarray:
        """p_t as float32 has it."""
        with np.errstate(all="ignore"):
            p = 1.0 / (1.0 + np.exp(-np.asarray(plain(x), dtype=np.float32)))
        return np.where(plain(y) == 1, p, np.float32(1.0) - p)


class LogOfSaturatedSigmoid(RTDETRDetectionLoss):
    """The classification loss takes the logarithm of a saturated sigmoid."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the fragile focal loss."""
        super().__init__(*args, **options)
        self.focal = SaturatingFocalLoss(self.focal.gamma, self.focal.alpha)


class ScoresInSinglePrecision(RTDETRDetectionLoss):
    """The target scores are kept in float32, whatever the predictions are."""

    def _target_scores(self, *boxes: np.ndarray) -> np.ndarray:
        scores = plain(super()._target_scores(*boxes))
        return track(scores.astype(np.float32).astype(np.float64), self.arithmetic)


class SumsInSinglePrecision(RTDETRDetectionLoss):
    """The auxiliary sums are kept in float32, whatever the predictions are."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        losses = super()._get_loss_aux(*args, **options)
        return {key: loss * (float(np.float32(loss)) / (float(loss) or 1.0)) for key, loss in losses.items()}


class OverflowingFocalLoss(FocalLoss):
    """The cross-entropy of the background is log(1 + exp(x)), in float32."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """Infinite beyond a logit of 88."""
        with np.errstate(all="ignore"):
            logits = plain(x).astype(np.float32)
            entropy = np.log1p(np.exp(logits)) - logits * plain(y)
            faded = (1.0 - plain(self._truth(x, y))) ** self.gamma
            return track(plain(self._balance(y)) * faded * entropy)


class ClampedFocalLoss(FocalLoss):
    """The probability is clamped, so that its logarithm is finite."""

    def terms(self, x: Terms, y: Terms) -> Terms:
        """At most 16 for each logit."""
        truth = np.clip(plain(self._truth(x, y)), 1e-7, 1.0 - 1e-7)
        return track(plain(self._balance(y)) * (1.0 - truth) ** self.gamma * -np.log(truth))


class NaNHidden(RTDETRDetectionLoss):
    """A loss that is NaN becomes 0."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """Every loss by itself."""
        losses = super().forward(*args, **options)
        return {key: zero_loss() if np.isnan(float(loss)) else loss for key, loss in losses.items()}


class Capped(RTDETRDetectionLoss):
    """A loss beyond ten thousand becomes ten thousand."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """Every loss by itself."""
        losses = super().forward(*args, **options)
        return {key: loss_of(track(np.array(1e4)), {}) if float(loss) > 1e4 else loss for key, loss in losses.items()}


STABLE = "loss specification, DETRLoss: BCE(x, y) of logits"

NUMERICS_DEVIATIONS = (
    Deviation(
        "rfdetr-log-of-saturated-sigmoid",
        "NUM",
        "Cross-entropy was written as -log(p) with p rounded to 0 or 1. Right: the log-sigmoid form. Shows "
        "beyond logits of 17 in float32.",
        "roboflow/rf-detr, pull request 138",
        loss=LogOfSaturatedSigmoid,
    ),
    Deviation(
        "plausible-scores-in-float32",
        "NUM",
        "The target scores are kept in float32. Right: in the precision of the predictions. Shows with float64.",
        "loss specification, Bad input: predictions of float64 are good input",
        loss=ScoresInSinglePrecision,
    ),
    Deviation(
        "plausible-sums-in-float32",
        "NUM",
        "The auxiliary losses are added up in float32. Right: in the precision of the predictions. Shows with float64.",
        "loss specification, Bad input: predictions of float64 are good input",
        loss=SumsInSinglePrecision,
    ),
    Deviation(
        "plausible-cross-entropy-overflow",
        "NUM",
        "The cross-entropy is log(1 + exp(x)), which overflows beyond a logit of 88. Right: the stable form. Shows "
        "with large logits.",
        STABLE,
        loss=with_focal(OverflowingFocalLoss),
    ),
    Deviation(
        "plausible-probability-clamped",
        "NUM",
        "The probability is clamped to [1e-7, 1 - 1e-7] to keep its logarithm finite, and the loss of a wrong logit "
        "stops at 16. Right: the stable form. Shows with large logits.",
        STABLE,
        loss=with_focal(ClampedFocalLoss),
    ),
    Deviation(
        "dfine-losses-nan-to-zero",
        "NUM",
        "A loss that is NaN became 0, with a gradient of 0. Right: NaN, for all to see. Shows with a NaN prediction.",
        "Peterande/D-FINE, the criterion's forward",
        loss=NaNHidden,
    ),
    Deviation(
        "plausible-loss-capped",
        "NUM",
        "A loss beyond ten thousand is cut off, infinity included. Right: nothing is hidden. Shows with an infinite "
        "logit.",
        "loss specification, Non-finite predictions",
        loss=Capped,
    ),
)
