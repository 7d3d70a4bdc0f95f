"""Deviations that a change of the input brings to light: order, numbering, and what a batch is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import placed
from detr_conformance.reference import Losses, Matching, RTDETRDetectionLoss


class OffsetForgotten(RTDETRDetectionLoss):
    """Target indices count within each image, and are used on the targets of the whole batch."""

    def _match(self, *args: Any) -> Sequence[Matching]:
        matching = super()._match(*args)
        gt_groups = args[4]
        return [(queries, targets - sum(gt_groups[:image])) for image, (queries, targets) in enumerate(matching)]


class FirstQueryErased(RTDETRDetectionLoss):
    """Padded pairs point to query 0 of image 0, which becomes background."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        pairs, erased = (targets < self.nc).sum(axis=1), targets.copy()
        if pairs.min() < pairs.max():
            erased[0, 0] = self.nc
        return super()._get_loss_class(pred_scores, erased, gt_scores, num_gts, postfix)


class FirstClassIsBackground(RTDETRDetectionLoss):
    """Class 0 is the background."""

    def _get_loss_class(
        self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
    ) -> Losses:
        erased = np.where(targets == 0, self.nc, targets)
        return super()._get_loss_class(pred_scores, erased, gt_scores, num_gts, postfix)


class MeanOfImages(RTDETRDetectionLoss):
    """Every image is divided by its own pairs, and the images are averaged."""

    def _get_loss(self, *args: Any, **options: Any) -> Losses:
        pred_bboxes, pred_scores, *targets = args
        given: Sequence[Matching] | None = options.get("match_indices")
        matching = self.matcher(*args) if given is None else given
        total: Losses = {}
        for image, pairs in enumerate(matching):
            options["match_indices"] = [pairs]
            losses = super()._get_loss(pred_bboxes[[image]], pred_scores[[image]], *targets, **options)
            for key, loss in losses.items():
                share = placed(loss, image, pred_bboxes.shape[:2]) / len(matching)
                total[key] = total[key] + share if key in total else share
        return total


INVARIANCE_DEVIATIONS = (
    Deviation(
        "khub-missing-target-offset",
        "INV",
        "Target indices of each image were used on the concatenated targets without the image's offset: later images "
        "were supervised by the first one's targets. Right: add the offset. Shows in a batch of two.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        loss=OffsetForgotten,
    ),
    Deviation(
        "khub-padding-scatter-clobbers-query0",
        "INV",
        "Pairs that fill up images with fewer targets were all written to query 0 of image 0, whose target became "
        "background. Right: nowhere. Shows where that query is matched and images have different numbers of targets.",
        "keras-team/keras-hub, d_fine_loss.py, _get_source_permutation_idx",
        loss=FirstQueryErased,
    ),
    Deviation(
        "plausible-class-0-is-background",
        "INV",
        "Class 0 is taken for the background, as where labels are padded with zeros. Right: no class is. Shows when "
        "classes are renamed.",
        "loss specification, DETRLoss, step 3: target class",
        loss=FirstClassIsBackground,
    ),
    Deviation(
        "plausible-mean-over-images",
        "INV",
        "Every image is divided by its own number of pairs, and the images are averaged. Right: all pairs of the batch "
        "count alike. Shows where images have different numbers of targets.",
        "loss specification, DETRLoss, step 2: matched pairs in this call",
        loss=MeanOfImages,
    ),
)
