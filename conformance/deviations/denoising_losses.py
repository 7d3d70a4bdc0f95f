"""Deviations in the losses of denoising queries whose pairing is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import DETRLoss, Losses, RTDETRDetectionLoss
from detr_conformance.reference.rtdetr_loss import DENOISING_NAMES


class MainOverDenoising(RTDETRDetectionLoss):
    """The main layer still has the denoising queries before its own."""

    def forward(self, preds: Any, batch: Mapping[str, Any], *denoising: Any) -> Losses:  # type: ignore[override]
        """All queries of the last layer are matched together."""
        losses = super().forward(preds, batch, *denoising)
        if not denoising:
            return losses
        dn_predictions, slots, before = denoising[:2], denoising[0].shape[2], len(preds[0]) - 1
        boxes, scores = (
            np.concatenate([dn[-1:], own[-1:]], axis=2) for dn, own in zip(dn_predictions, preds, strict=True)
        )

        def own_part(gradient: Any) -> Any:
            own = gradient[:, :, slots:]
            return np.concatenate([np.zeros((before, *own.shape[1:])), own])

        main = DETRLoss.forward(self, boxes, scores, batch)
        return losses | {key: loss.map_gradients(own_part) for key, loss in main.items() if "aux" not in key}


class NothingByNothing(RTDETRDetectionLoss):
    """A batch without targets divides its denoising losses by their number."""

    def forward(self, preds: Any, batch: Mapping[str, Any], *denoising: Any) -> Losses:  # type: ignore[override]
        """0 / 0."""
        losses = super().forward(preds, batch, *denoising)
        if sum(batch["gt_groups"]):
            return losses
        return {key: loss * (np.nan if "_dn" in key else 1.0) for key, loss in losses.items()}


class GroupsNotCounted(RTDETRDetectionLoss):
    """The normaliser is the number of denoised targets."""

    def _denoising_losses(self, *args: Any) -> Losses:
        groups = args[3]["dn_num_group"]
        losses = super()._denoising_losses(*args)
        return {key: loss * (groups if self.use_fl or "class" not in key else 1) for key, loss in losses.items()}


class MatchedByCost(RTDETRDetectionLoss):
    """Denoising queries are matched as the others are."""

    def _denoising_losses(self, dn_bboxes: Any, dn_scores: Any, batch: Mapping[str, Any], _meta: Any) -> Losses:
        matching = self.matcher(dn_bboxes[-1], dn_scores[-1], *self._targets(batch, dn_bboxes.shape[1]))
        losses = DETRLoss.forward(self, dn_bboxes, dn_scores, batch, postfix="_dn", match_indices=matching)
        return {key: loss.rename_gradients(DENOISING_NAMES) for key, loss in losses.items()}


class LastLayerOnly(RTDETRDetectionLoss):
    """Only the last layer of the denoising queries counts."""

    def _denoising_losses(self, dn_bboxes: Any, dn_scores: Any, *others: Any) -> Losses:
        losses = super()._denoising_losses(dn_bboxes[-1:], dn_scores[-1:], *others)

        def in_last(gradient: Any) -> Any:
            return np.concatenate([np.zeros((len(dn_bboxes) - 1, *gradient.shape[1:])), gradient])

        return {key: loss.map_gradients(in_last) for key, loss in losses.items()}


class PositivesOnly(RTDETRDetectionLoss):
    """Negatives and padding have no part in the classification loss."""

    def _denoising_losses(self, dn_bboxes: Any, dn_scores: Any, batch: Any, dn_meta: Any) -> Losses:
        certain = np.full(dn_scores.shape, -1e4)  # background beyond doubt costs nothing
        for image, slots in enumerate(dn_meta["dn_pos_idx"]):
            certain[:, image, slots] = dn_scores[:, image, slots]
        return super()._denoising_losses(dn_bboxes, certain, batch, dn_meta)


DENOISING = "loss specification, RTDETRDetectionLoss"

DENOISING_LOSS_DEVIATIONS = (
    Deviation(
        "hf-main-loss-over-dn-queries",
        "DN",
        "The last layer went into the main loss with its denoising queries, which took the targets away from the "
        "ordinary ones. Right: split it first. Shows when denoising predictions change: the main loss must not.",
        "huggingface/transformers 4.46.3 to 5.15.0, pull request 48528",
        loss=MainOverDenoising,
    ),
    Deviation(
        "dfine-dn-num-boxes-zero",
        "DN",
        "A batch without targets has no group, and its denoising losses were 0 / 0. Right: 0. Shows in such a batch.",
        "Peterande/D-FINE, commit 9b949c6",
        loss=NothingByNothing,
    ),
    Deviation(
        "plausible-dn-normaliser-without-groups",
        "DN",
        "Sums over all groups are divided by the number of denoised targets. Right: times the number of groups. Shows "
        "with two groups.",
        "loss specification, DETRLoss: with denoising N is the denoised targets times the number of groups",
        loss=GroupsNotCounted,
    ),
    Deviation(
        "plausible-dn-matched-by-cost",
        "DN",
        "Denoising queries are matched by cost like all others. Right: each belongs to the target it was made from. "
        "Shows with one group, since its negatives may be cheaper.",
        DENOISING,
        loss=MatchedByCost,
    ),
    Deviation(
        "plausible-dn-last-layer-only",
        "DN",
        "The denoising losses are those of the last layer, and the auxiliary ones are 0. Right: every layer. Shows "
        "with two layers.",
        DENOISING,
        loss=LastLayerOnly,
    ),
    Deviation(
        "plausible-dn-positives-only",
        "DN",
        "The classification loss leaves out negatives and padding. Right: they are background. Shows with one target.",
        DENOISING,
        loss=PositivesOnly,
    ),
)
