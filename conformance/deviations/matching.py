"""Deviations in the matching of a batch: indices, what a broken cost becomes, and how the loss builds its matcher."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation, with_matcher
from detr_conformance.reference import HungarianMatcher, Matching, RTDETRDetectionLoss
from detr_conformance.reference.detr_loss import MATCHER_COST_GAIN


class AsManyAsImages(HungarianMatcher):
    """Stops after as many pairs as the batch has images."""

    def __call__(self, *args: Any, **options: Any) -> list[Matching]:
        """Every image's matching cut off."""
        matching = super().__call__(*args, **options)
        return [(queries[: len(matching)], targets[: len(matching)]) for queries, targets in matching]


class OneProblemForAll(HungarianMatcher):
    """Solves the whole batch as one problem, in which a query may take a target of another image."""

    def __call__(
        self,
        pred_bboxes: np.ndarray,
        pred_scores: np.ndarray,
        gt_bboxes: np.ndarray,
        gt_cls: np.ndarray,
        gt_groups: Any,
        *_masks: Any,
    ) -> list[Matching]:
        """Pairs go to the image of their query."""
        images, size = pred_bboxes.shape[:2]
        flat = pred_bboxes.reshape(1, -1, 4), pred_scores.reshape(1, images * size, -1)
        [(queries, targets)] = super().__call__(*flat, gt_bboxes, gt_cls, [sum(gt_groups)])
        return [
            (queries[queries // size == image] % size, targets[queries // size == image]) for image in range(images)
        ]


class PreviousOffset(HungarianMatcher):
    """Offsets the targets of an image by the number of those of the image before it."""

    def __call__(self, *args: Any, **options: Any) -> list[Matching]:
        """Right for the first two images."""
        gt_groups = args[4]
        offsets = [0, *gt_groups]
        return [
            (queries, targets - sum(gt_groups[:image]) + offsets[image])
            for image, (queries, targets) in enumerate(super().__call__(*args, **options))
        ]


class EmptyImagesSkipped(HungarianMatcher):
    """Returns nothing for an image without targets, so that the images after it move up."""

    def __call__(self, *args: Any, **options: Any) -> list[Matching]:
        """The empty matchings at the end."""
        return sorted(super().__call__(*args, **options), key=lambda pair: len(pair[0]) == 0)


class NaNCostsOne(HungarianMatcher):
    """NaN costs as much as an ordinary pair."""

    def replace_non_finite(self, cost: np.ndarray) -> np.ndarray:
        """1 for NaN, the largest number for infinity."""
        return np.nan_to_num(cost, nan=1.0, posinf=1e30, neginf=-1e30)


class NaNCostsMost(HungarianMatcher):
    """NaN costs more than anything."""

    def replace_non_finite(self, cost: np.ndarray) -> np.ndarray:
        """The largest number of float32."""
        return np.where(np.isfinite(cost), cost, np.finfo(np.float32).max)


class NaNCostsTwice(HungarianMatcher):
    """NaN costs twice as much as the dearest pair, which is less where all costs are negative."""

    def replace_non_finite(self, cost: np.ndarray) -> np.ndarray:
        """Twice the largest finite cost."""
        finite = np.isfinite(cost)
        return np.where(finite, cost, 2.0 * cost[finite].max(initial=-1e30) if finite.any() else 0.0)


class LossOptionsInMatcher(RTDETRDetectionLoss):
    """The matcher is built with alpha and gamma of the loss."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the other matcher."""
        super().__init__(*args, **options)
        self.matcher = HungarianMatcher(MATCHER_COST_GAIN, alpha=self.focal.alpha, gamma=self.focal.gamma)


class LossKindInMatcher(RTDETRDetectionLoss):
    """The matcher takes probabilities by softmax where the loss is not a focal one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the other matcher."""
        super().__init__(*args, **options)
        self.matcher.use_fl = self.use_fl


class MatchersOwnGains(RTDETRDetectionLoss):
    """The matcher is built with its own default gains, 1, 5 and 2."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with the other matcher."""
        super().__init__(*args, **options)
        self.matcher = HungarianMatcher()


MATCHING_DEVIATIONS = (
    Deviation(
        "scenic-greedy-wrong-axis",
        "MATCH",
        "The number of steps was the smaller of the number of targets and the size of the batch. Right: of targets and "
        "queries. Shows in a batch with fewer images than an image has targets.",
        "google-research/scenic, commit 877ac40",
        loss=with_matcher(AsManyAsImages),
    ),
    Deviation(
        "plausible-one-problem-for-the-batch",
        "MATCH",
        "All queries of the batch compete for all targets of the batch. Right: every image is a problem of its own. "
        "Shows with two images.",
        "loss specification, HungarianMatcher: each image's own Q x n_b block",
        loss=with_matcher(OneProblemForAll),
    ),
    Deviation(
        "plausible-offset-of-previous-image",
        "MATCH",
        "Targets of an image are offset by the number of those of the image before it. Right: of all images before it. "
        "Shows in the third image.",
        "loss specification, HungarianMatcher: target indices point into the concatenated targets",
        loss=with_matcher(PreviousOffset),
    ),
    Deviation(
        "plausible-empty-images-skipped",
        "MATCH",
        "An image without targets adds nothing to the list of matchings, and the next image takes its place. Right: a "
        "pair of empty index arrays. Shows with an empty image that is not the last.",
        "loss specification, HungarianMatcher: B pairs come out",
        loss=with_matcher(EmptyImagesSkipped),
    ),
    Deviation(
        "dfine-nan-cost-to-1",
        "MATCH",
        "A NaN cost became 1, an ordinary cost, which may beat a sound query. Right under this profile: 0; safer: more "
        "than every finite cost. Shows with a NaN prediction.",
        "Peterande/D-FINE, matcher.py",
        loss=with_matcher(NaNCostsOne),
    ),
    Deviation(
        "hf-nan-cost-to-largest",
        "MATCH",
        "A cost that is not finite becomes the largest number: safer than this profile's 0, but another convention "
        "than it names. Shows with a NaN prediction.",
        "huggingface/transformers, pull request 47730",
        loss=with_matcher(NaNCostsMost),
    ),
    Deviation(
        "rfdetr-nan-replaced-by-nan",
        "MATCH",
        "A broken cost became twice the largest cost: NaN again where that was NaN, and cheaper than every sound one "
        "where all were negative; here it is the largest finite one. Right under this profile: 0. Shows with a NaN "
        "prediction.",
        "roboflow/rf-detr 1.3.0 to 1.5.2, issues 431 and 784",
        loss=with_matcher(NaNCostsTwice),
    ),
    Deviation(
        "hf-deformable-class-cost-gain",
        "MATCH",
        "The loss built its matcher with a class gain of 1 where the original has 2. Right: gains 2, 5 and 2, which "
        "are not the matcher's own defaults. Shows in who is matched inside the loss.",
        "huggingface/transformers, configuration of Deformable DETR: class_cost",
        loss=MatchersOwnGains,
    ),
    Deviation(
        "plausible-loss-options-in-matcher",
        "MATCH",
        "Alpha and gamma of the loss are handed on to its matcher. Right: the matcher keeps 0.25 and 2. Shows in who "
        "is matched inside a loss with other options.",
        "loss specification, DETRLoss: neither gamma nor alpha of the loss reach the matcher",
        loss=LossOptionsInMatcher,
    ),
    Deviation(
        "plausible-loss-kind-in-matcher",
        "MATCH",
        "A loss without use_fl builds a matcher without it, which takes probabilities by softmax. Right: the matcher's "
        "class cost is the focal one always. Shows in who is matched inside such a loss.",
        "loss specification, DETRLoss: use_fl of the loss does not reach the matcher",
        loss=LossKindInMatcher,
    ),
)
