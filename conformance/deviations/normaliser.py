"""Deviations in what a sum is divided and multiplied by: the normaliser and the gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import Losses, RTDETRDetectionLoss
from detr_conformance.reference.rounding import plain

STEP_2 = "loss specification, DETRLoss, step 2"
STEP_4 = "loss specification, DETRLoss, step 4"
STEP_5 = "loss specification, DETRLoss, step 5"

Gains = Mapping[str, float]


def with_normaliser(count: Callable[[int, int, Any], float]) -> type[RTDETRDetectionLoss]:
    """The loss with N counted otherwise, from the pairs, the queries of an image, and the targets of each."""

    class Loss(RTDETRDetectionLoss):
        def _get_loss(self, *args: Any, **options: Any) -> Losses:
            losses, queries, gt_groups = super()._get_loss(*args, **options), args[0].shape[1], args[4]
            given = options.get("match_indices")
            each = [min(queries, n) for n in gt_groups] if given is None else [len(own) for own, _ in given]
            with np.errstate(divide="ignore"):
                share = float(np.float64(max(sum(each), 1)) / count(sum(each), queries, gt_groups))
            # Cross-entropy is divided by the queries.
            return {key: loss * (share if self.use_fl or "class" not in key else 1.0) for key, loss in losses.items()}

    return Loss


def with_factor(factor: Callable[[int, tuple[int, ...], float], float], focal: bool) -> type[RTDETRDetectionLoss]:
    """The loss with the focal losses, or else cross-entropy, times a factor.

    It is made of the pairs, at least 1, the shape of a layer's logits, and the sum of the target scores.
    """

    class Loss(RTDETRDetectionLoss):
        def _get_loss_class(
            self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, postfix: str = ""
        ) -> Losses:
            losses = super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, postfix)
            if self.use_fl is not focal:
                return losses
            share = factor(max(num_gts, 1), pred_scores.shape, float(plain(gt_scores).sum()))
            return {key: loss * share for key, loss in losses.items()}

    return Loss


def with_gains(change: Callable[[Gains], Gains]) -> type[RTDETRDetectionLoss]:
    """The loss with other gains than it was asked for."""

    class Loss(RTDETRDetectionLoss):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.loss_gain = dict(change(self.loss_gain))

    return Loss


class TargetsCounted(RTDETRDetectionLoss):
    """Every target counts, also one without a query."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The ordinary losses times pairs over targets."""
        losses = super().forward(*args, **options)
        queries, gt_groups = args[0][0].shape[2], args[1]["gt_groups"]
        share = max(sum(min(queries, count) for count in gt_groups), 1) / max(sum(gt_groups), 1)
        kept = ("_dn",) if self.use_fl else ("_dn", "class")
        return {key: loss if any(part in key for part in kept) else loss * share for key, loss in losses.items()}


class PairsOfAllLayers(RTDETRDetectionLoss):
    """The pairs of all layers are counted together."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The ordinary losses divided once more by the number of layers."""
        losses = super().forward(*args, **options)
        return {key: loss if "_dn" in key else loss / len(args[0][0]) for key, loss in losses.items()}


NORMALISER_DEVIATIONS = (
    Deviation(
        "netspresso-normaliser-commented-out",
        "CLASS",
        "The lines that kept the number of targets at 1 or more were commented out in a port: a batch without targets "
        "was divided by 0. Right: max(N, 1). Shows in such a batch: loss_class is infinite, the box losses are NaN.",
        "Nota-NetsPresso/netspresso-trainer, commit 8fade566",
        loss=with_normaliser(lambda pairs, _queries, _gt_groups: pairs),
    ),
    Deviation(
        "rtdetrv3-focal-mean",
        "CLASS",
        "The focal loss was a mean over images, queries and classes. Right: the sum over them, divided by the number "
        "of pairs. Shows in any focal loss.",
        "yyq19990828/RT-DETRv3-PyTorch, commit 77920d2, focal loss of the criterion",
        loss=with_factor(lambda pairs, shape, _scores: pairs / math.prod(shape), focal=True),
    ),
    Deviation(
        "plausible-mean-over-queries-not-undone",
        "CLASS",
        "The focal losses return a mean over the queries, which was divided by N and not multiplied by Q. Right: times "
        "Q / max(N, 1). Shows with two queries.",
        f"{STEP_4}: the caller multiplies by Q / max(N, 1)",
        loss=with_factor(lambda _pairs, shape, _scores: 1.0 / shape[1], focal=True),
    ),
    Deviation(
        "plausible-bce-by-pairs",
        "CLASS",
        "Cross-entropy is divided by the number of pairs, as the focal losses are. Right: by the number of queries. "
        "Shows where the two differ.",
        f"{STEP_4}: not use_fl",
        loss=with_factor(lambda pairs, shape, _scores: shape[1] / pairs, focal=False),
    ),
    Deviation(
        "plausible-divided-by-scores",
        "CLASS",
        "The focal losses are divided by the sum of the target scores, as one-stage detectors do. Right: by the number "
        "of pairs. Shows where predictions are not perfect.",
        f"{STEP_4}: both",
        loss=with_factor(lambda pairs, _shape, scores: pairs / max(scores, 1.0), focal=True),
    ),
    Deviation(
        "hf-lwdetr-class-coef-ignored",
        "CLASS",
        "The weight of the classification loss was 1 whatever the configuration said. Right: as configured. Shows with "
        "any other class gain.",
        "huggingface/transformers up to 5.6, loss/loss_lw_detr.py",
        loss=with_gains(lambda gain: {**gain, "class": 1.0}),
    ),
    Deviation(
        "plausible-class-gain-twice",
        "CLASS",
        "The class gain is applied in the loss and once more where losses are added up. Right: once. Shows with a "
        "class gain other than 1.",
        f"{STEP_4}: times loss_gain",
        loss=with_gains(lambda gain: {**gain, "class": gain["class"] ** 2}),
    ),
    Deviation(
        "plausible-giou-gain-on-l1",
        "REG",
        "The L1 loss is multiplied by the gain of the GIoU loss. Right: each by its own. Shows where the two gains "
        "differ.",
        STEP_5,
        loss=with_gains(lambda gain: {**gain, "bbox": gain["giou"]}),
    ),
    Deviation(
        "khub-padding-counts-as-boxes",
        "REG",
        "Targets were padded to the same number in every image, and the normaliser counted the padding. Right: the "
        "targets there are. Shows where images have different numbers of targets.",
        "keras-team/keras-hub 0.32.0, models/d_fine/d_fine_loss.py",
        loss=with_normaliser(lambda _pairs, _queries, gt_groups: max(len(gt_groups) * max(gt_groups), 1)),
    ),
    Deviation(
        "plausible-divided-by-targets",
        "REG",
        "The normaliser is the number of targets, as in DETR. Right under this profile: of matched pairs. Shows with "
        "fewer queries than targets.",
        STEP_2,
        loss=TargetsCounted,
    ),
    Deviation(
        "plausible-divided-by-all-queries",
        "REG",
        "Sums are averaged over all queries of all images. Right: divided by the number of pairs. Shows with queries "
        "without a target.",
        STEP_2,
        loss=with_normaliser(lambda _pairs, queries, gt_groups: queries * len(gt_groups)),
    ),
    Deviation(
        "plausible-divided-by-pairs-of-all-layers",
        "REG",
        "All layers are flattened into one batch, whose pairs the normaliser counts. Right: the pairs of one layer. "
        "Shows with two layers.",
        f"{STEP_2}: matched pairs in this call",
        loss=PairsOfAllLayers,
    ),
)
