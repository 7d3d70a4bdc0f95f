"""Deviations in which layer is the main one, and when there are auxiliary losses at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import Losses, RTDETRDetectionLoss

AUX = "loss specification, DETRLoss, forward"
TERMS = ("class", "bbox", "giou")


class MainIncluded(RTDETRDetectionLoss):
    """The main layer counts among the auxiliary ones as well."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The main losses added once more."""
        losses = super().forward(*args, **options)
        again = {f"loss_{term}_aux{part}": f"loss_{term}{part}" for term in TERMS for part in ("", "_dn")}
        return losses | {key: losses[key] + losses[main] for key, main in again.items() if key in losses}


class MainIsFirst(RTDETRDetectionLoss):
    """The first layer is taken for the main one."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The first layer moved behind the last."""
        preds, *others = args
        losses = super().forward(tuple(np.roll(each, -1, axis=0) for each in preds), *others, **options)
        order = np.roll(np.arange(len(preds[0])), 1)
        return {key: loss if "_dn" in key else loss.map_gradients(lambda by: by[order]) for key, loss in losses.items()}


class AlwaysAuxiliary(RTDETRDetectionLoss):
    """aux_loss is not looked at."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with auxiliary losses."""
        super().__init__(*args, **options)
        self.aux_loss = True


class SingleLayerIsAuxiliary(RTDETRDetectionLoss):
    """A single layer is the main one and an auxiliary one."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """The main losses under both keys."""
        losses = super().forward(*args, **options)
        if len(args[0][0]) > 1 or not self.aux_loss:
            return losses
        return losses | {f"loss_{term}_aux": losses[f"loss_{term}"] for term in TERMS}


MAIN_LAYER_DEVIATIONS = (
    Deviation(
        "plausible-aux-includes-main",
        "AUX",
        "The main layer is one of the auxiliary layers too. Right: all layers but the last. Shows with any layers.",
        AUX,
        loss=MainIncluded,
    ),
    Deviation(
        "plausible-main-layer-first",
        "AUX",
        "The first layer is taken for the main one. Right: the last. Shows with two layers.",
        AUX,
        loss=MainIsFirst,
    ),
    Deviation(
        "plausible-single-layer-is-auxiliary",
        "AUX",
        "A single layer gives the auxiliary losses too. Right: zeros. Shows with one layer.",
        f"{AUX}: zeros where L = 1",
        loss=SingleLayerIsAuxiliary,
    ),
    Deviation(
        "plausible-aux-loss-ignored",
        "AUX",
        "The auxiliary losses are returned although aux_loss is off. Right: main losses only. Shows with "
        "aux_loss=False.",
        f"{AUX}: with aux_loss",
        loss=AlwaysAuxiliary,
    ),
)
