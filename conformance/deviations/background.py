"""Deviations in which queries are classified, and in the weight of those without a target."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import placed
from detr_conformance.reference import Losses, RTDETRDetectionLoss
from detr_conformance.reference.loss_value import zero_loss

STEP_4 = "loss specification, DETRLoss, step 4"


class WeightedQueries(RTDETRDetectionLoss):
    """Queries do not all count alike in the classification."""

    def _weights(self, matched: np.ndarray) -> np.ndarray:
        """The weight of each query, from whether it has a target; shape (images, queries)."""
        raise NotImplementedError

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        total, weights = zero_loss(), self._weights(targets < self.nc)
        for weight in np.unique(weights[weights > 0]):
            chosen = weights == weight
            logits, classes, scores = (each[chosen][None] for each in (pred_scores, targets, gt_scores))
            [part] = super()._get_loss_class(logits, classes, scores, num_gts).values()
            # Cross-entropy is an average over the queries that are looked at, here over all of them.
            share = 1.0 if self.use_fl else chosen.sum() / targets.shape[1]
            total += placed(part, chosen, targets.shape) * (float(weight) * share)
        return {f"loss_class{postfix}": total}


class NoBackground(WeightedQueries):
    """Queries without a target do not take part."""

    def _weights(self, matched: np.ndarray) -> np.ndarray:
        return matched.astype(np.float64)


class NoEmptyImages(WeightedQueries):
    """Images without a target do not take part, unless all are such."""

    def _weights(self, matched: np.ndarray) -> np.ndarray:
        return np.zeros(matched.shape) + (matched.any(axis=1, keepdims=True) | ~matched.any())


class LighterBackground(WeightedQueries):
    """Queries without a target are weighted by the gain no_object, or its default."""

    def _weights(self, matched: np.ndarray) -> np.ndarray:
        return np.where(matched, 1.0, self.loss_gain.get("no_object", 0.1))


class NothingWithoutTargets(RTDETRDetectionLoss):
    """A batch without targets returns early, with zeros."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        losses = super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, postfix)
        return losses if num_gts else dict.fromkeys(losses, zero_loss())


BACKGROUND_DEVIATIONS = (
    Deviation(
        "plausible-background-left-out",
        "CLASS",
        "Only matched queries are classified. Right: all queries, those without a target as background. Shows with "
        "more queries than targets.",
        f"{STEP_4}: sum over all B, Q, C",
        loss=NoBackground,
    ),
    Deviation(
        "plausible-empty-images-left-out",
        "CLASS",
        "Images without a target are not classified. Right: all their queries are background. Shows in a batch where "
        "only some images are empty.",
        f"{STEP_4}: sum over all B, Q, C",
        loss=NoEmptyImages,
    ),
    Deviation(
        "plausible-no-object-weight",
        "CLASS",
        "Queries without a target are weighted by the gain no_object, as DETR weighs its background class. Right: "
        "no_object is never read. Shows with more queries than targets.",
        "loss specification, DETRLoss: loss_gain",
        loss=LighterBackground,
    ),
    Deviation(
        "plausible-no-class-loss-without-targets",
        "CLASS",
        "A batch without targets returns zeros, the classification loss among them. Right: every query of it is "
        "background. Shows in such a batch.",
        f"{STEP_4}: focal otherwise",
        loss=NothingWithoutTargets,
    ),
)
