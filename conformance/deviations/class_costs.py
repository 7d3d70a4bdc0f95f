"""Deviations in the class term of the matching cost."""

from __future__ import annotations

import numpy as np

from detr_conformance.deviations.deviation import Deviation, with_matcher
from detr_conformance.reference import HungarianMatcher
from detr_conformance.reference.classification import sigmoid


class AlwaysSoftmax(HungarianMatcher):
    """The probability of the softmax, for a head of sigmoids too."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """In place of the focal cost."""
        return self.softmax_class_cost(logits, gt_cls)


class FixedAlpha(HungarianMatcher):
    """Alpha is 0.25, whatever was asked for."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """The cost of another matcher."""
        return HungarianMatcher(gamma=self.gamma).focal_class_cost(logits, gt_cls)


class FixedGamma(HungarianMatcher):
    """Gamma is 2, whatever was asked for."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """The cost of another matcher."""
        return HungarianMatcher(alpha=self.alpha).focal_class_cost(logits, gt_cls)


class SwappedAlpha(HungarianMatcher):
    """Alpha weighs the negative part, and 1 - alpha the positive one."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """The cost of another matcher."""
        return HungarianMatcher(alpha=1.0 - self.alpha, gamma=self.gamma).focal_class_cost(logits, gt_cls)


class PositivePartOnly(HungarianMatcher):
    """What a positive would lose, without what the background loses now."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """Alpha (1 - p)^gamma (-log p)."""
        p = sigmoid(logits[:, gt_cls])
        return self.alpha * (1.0 - p) ** self.gamma * -np.log(p + 1e-8)


class SigmoidOnly(HungarianMatcher):
    """Minus the probability, as DETR has it, by the sigmoid."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """-p."""
        return -sigmoid(logits[:, gt_cls])


class UnboundedLogarithm(HungarianMatcher):
    """The logarithms get the probability without 1e-8."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """By the log-sigmoid."""
        own = logits[:, gt_cls]
        p, minus_log_p = sigmoid(own), np.logaddexp(0.0, -own)
        positive = self.alpha * (1.0 - p) ** self.gamma * minus_log_p
        return positive - (1.0 - self.alpha) * p**self.gamma * (own + minus_log_p)


class NextColumn(HungarianMatcher):
    """Takes the logit of the class after the target's."""

    def cost(
        self, pred_bboxes: np.ndarray, pred_scores: np.ndarray, gt_bboxes: np.ndarray, gt_cls: np.ndarray
    ) -> np.ndarray:
        """As if the background were class 0."""
        return super().cost(pred_bboxes, pred_scores, gt_bboxes, (gt_cls + 1) % pred_scores.shape[-1])


class SoftmaxOfQueries(HungarianMatcher):
    """The softmax runs over the queries instead of the classes."""

    def softmax_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        """Of each class for itself."""
        weights = np.exp(logits - logits.max(axis=0))
        return -(weights / weights.sum(axis=0))[:, gt_cls]


COST = "loss specification, HungarianMatcher: class cost"

CLASS_COST_DEVIATIONS = (
    Deviation(
        "hf-deformable-seg-softmax-matcher",
        "MATCH",
        "The matcher of a sigmoid head took probabilities by softmax. Right: the focal cost of each class's own "
        "sigmoid. Shows with several classes.",
        "huggingface/transformers 4.46 to 5.23.0, DeformableDetrForSegmentationLoss",
        loss=with_matcher(AlwaysSoftmax),
    ),
    Deviation(
        "rfdetr-matcher-alpha-hardcoded",
        "MATCH",
        "The matcher took an alpha and used 0.25. Right: the one it was given. Shows with another alpha.",
        "roboflow/rf-detr, pull request 1147",
        loss=with_matcher(FixedAlpha),
    ),
    Deviation(
        "hf-deformable-matcher-gamma-hardcoded",
        "MATCH",
        "The matcher used a gamma of 2 that nothing could change. Right: the one it was given. Shows with another "
        "gamma.",
        "huggingface/transformers, loss/loss_deformable_detr.py",
        loss=with_matcher(FixedGamma),
    ),
    Deviation(
        "plausible-cost-alpha-swapped",
        "MATCH",
        "Alpha weighs the negative part of the cost. Right: the positive part. Shows where logits decide.",
        COST,
        loss=with_matcher(SwappedAlpha),
    ),
    Deviation(
        "plausible-cost-without-negative-part",
        "MATCH",
        "The cost is the focal loss of a positive alone. Right: minus that of the background, which the query would "
        "no longer be. Shows where logits decide.",
        COST,
        loss=with_matcher(PositivePartOnly),
    ),
    Deviation(
        "plausible-cost-minus-sigmoid",
        "MATCH",
        "The cost is minus the probability, by a sigmoid. Right: the focal cost. Shows where logits decide.",
        COST,
        loss=with_matcher(SigmoidOnly),
    ),
    Deviation(
        "rfdetr-cost-without-eps",
        "MATCH",
        "The cost is computed from the log-sigmoid, and grows with the logit. Right under this profile: the logarithm "
        "of p + 1e-8, which stops at 18. Shows beyond logits of 18.",
        "roboflow/rf-detr 1.2 and later, the matcher's class cost",
        loss=with_matcher(UnboundedLogarithm),
    ),
    Deviation(
        "plausible-class-column-off-by-one",
        "MATCH",
        "The cost of the next class is taken, as if the background were class 0. Right: class 0 is column 0. Shows "
        "with two classes.",
        COST,
        loss=with_matcher(NextColumn),
    ),
    Deviation(
        "plausible-softmax-over-queries",
        "MATCH",
        "The softmax of the matcher's other class cost runs over the queries. Right: over the classes. Shows in a "
        "matcher without use_fl.",
        COST,
        loss=with_matcher(SoftmaxOfQueries),
    ),
)
