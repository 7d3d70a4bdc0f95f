"""Deviations in the auxiliary losses: whose matching a layer has, and what a layer is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import DETRLoss, Losses, RTDETRDetectionLoss, Tracked, track
from detr_conformance.reference.rounding import plain

OWN = "loss specification, DETRLoss, forward: each auxiliary layer is matched on its own"
SHARED = "loss specification, DETRLoss, forward: use_uni_match"


class ImagesForLayers(RTDETRDetectionLoss):
    """The axis of images is taken for that of layers: each image but the last is a layer, and its layers are images."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        pred_bboxes, pred_scores, *targets = args
        totals = super()._get_loss_aux(pred_bboxes[:0], pred_scores[:0], *targets, **options)
        layers, images = pred_bboxes.shape[:2]
        # Where there are fewer layers than images it raised; here the layers start over.
        chosen = np.arange(images) % max(layers, 1)
        options["postfix"] = ""
        for image in range(images - 1) if layers else ():
            predictions = pred_bboxes[chosen, image], pred_scores[chosen, image]
            losses = self._get_loss(*predictions, *targets, **options)
            for total, loss in zip(list(totals), losses.values(), strict=True):
                totals[total] += loss.map_gradients(partial(_added, where=(chosen, image), lead=pred_bboxes.shape[:3]))
        return totals


def _added(gradient: Tracked, where: Any, lead: tuple[int, ...]) -> Tracked:
    """The gradient by all layers, in which one layer may stand for several images."""
    whole = np.zeros((*lead, gradient.shape[-1]))
    np.add.at(whole, where, plain(gradient))
    return track(whole)


class StaleMatching(RTDETRDetectionLoss):
    """The matching of the first auxiliary layer is kept for the others."""

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        pred_bboxes, pred_scores, *targets = args
        if options.get("match_indices") is None and not self.use_uni_match and len(pred_bboxes):
            options["match_indices"] = self.matcher(pred_bboxes[0], pred_scores[0], *targets)
        return super()._get_loss_aux(*args, **options)


class MatchingOfMain(RTDETRDetectionLoss):
    """The auxiliary layers have the matching of the main one."""

    def _common_layer(self) -> int:
        return -1

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The ordinary losses once more, with one matching for all layers."""
        (boxes, logits), batch, *_ = args
        layer, targets = self._common_layer(), [batch[key] for key in ("bboxes", "cls", "gt_groups")]
        matching = self.matcher(boxes[layer], logits[layer], *targets)
        return super().forward(*args, **options) | DETRLoss.forward(self, boxes, logits, batch, "", matching)


class MainShares(MatchingOfMain):
    """With use_uni_match the main layer shares the matching too."""

    def _common_layer(self) -> int:
        return self.uni_match_ind if self.use_uni_match else -1

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference without use_uni_match."""
        kind = MatchingOfMain if self.use_uni_match else RTDETRDetectionLoss
        return kind.forward(self, *args, **options)


class SharedFromTheEnd(RTDETRDetectionLoss):
    """uni_match_ind counts from the last auxiliary layer."""

    def _shared_layer(self, layers: int) -> int:
        return layers - 1 - super()._shared_layer(layers)


LAYER_MATCHING_DEVIATIONS = (
    Deviation(
        "hf-deformable-aux-batch-axis",
        "AUX",
        "Layers were stacked along the second axis and taken along the first: every image but the last became a layer, "
        "matched with the targets of all images. Right: layers along the first axis. Shows in the sum over layers; one "
        "image has no auxiliary loss.",
        "huggingface/transformers 4.30.2, modeling_deformable_detr.py",
        loss=ImagesForLayers,
    ),
    Deviation(
        "paddle-aux-stale-matching",
        "AUX",
        "The matching of the first auxiliary layer was stored where the next one looked for a given matching, and used "
        "from there on. Right: every layer is matched on its own. Shows with three layers that match differently.",
        "PaddlePaddle/PaddleDetection, pull request 7724",
        loss=StaleMatching,
    ),
    Deviation(
        "plausible-aux-matching-of-main",
        "AUX",
        "The auxiliary layers have the matching of the main one, an option of lyuwenyu/RT-DETR. Right under this "
        "profile: every layer its own. Shows with layers that match differently.",
        OWN,
        loss=MatchingOfMain,
    ),
    Deviation(
        "plausible-uni-match-main-too",
        "AUX",
        "With use_uni_match the main layer shares the matching too. Right: it keeps its own. Shows with layers that "
        "match differently.",
        SHARED,
        loss=MainShares,
    ),
    Deviation(
        "plausible-uni-match-from-the-end",
        "AUX",
        "uni_match_ind counts from the last auxiliary layer. Right: from the first. Shows with three layers that match "
        "differently.",
        SHARED,
        loss=SharedFromTheEnd,
    ),
)
