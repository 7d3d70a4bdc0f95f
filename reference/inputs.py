"""What a loss is called with: predictions, targets and denoising queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.rounding import FLOAT32, Arithmetic


@dataclass(frozen=True)
class DenoisingInputs:
    """Predictions of the denoising queries, and where they came from.

    Attributes:
        boxes: predicted boxes in centre form.
        logits: one column for each class, and in some specs one for no object.
        pos_idx: for each image its positive slots, group after group.
        gt_idx: for each image the targets that one group reconstructs; None for all of them in order.
        groups: number of groups.
        further: predictions that extra terms read, by the names of those of ordinary queries.
        constants: what extra terms of denoising queries read beside predictions and targets.
    """

    boxes: Float[np.ndarray, "dn_layers images denoising 4"]
    logits: Float[np.ndarray, "dn_layers images denoising classes"]
    pos_idx: Sequence[Int64[np.ndarray, " _slots"]]
    gt_idx: Sequence[Int64[np.ndarray, " _targets"]] | None
    groups: int
    further: Mapping[str, Float[np.ndarray, "dn_layers images denoising *_"]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What a loss is called with.

    Attributes:
        boxes: predicted boxes in centre form, the main layer last.
        logits: one column for each class, and in some specs one for no object.
        targets: the ground truths.
        denoising: the denoising queries, if there are any.
        arithmetic: floating-point format of the port under test; it scales the error bounds.
        bounded: whether the losses come with bounds on their rounding errors. Without them they are quicker.
        further: predictions that extra terms read, by name, such as `masks`. In `Loss.gradients` they are called
            `pred_masks`, those of denoising queries `dn_masks`.
        constants: what extra terms of ordinary queries read beside predictions and targets, such as the masks of
            targets.
    """

    boxes: Float[np.ndarray, "layers images queries 4"]
    logits: Float[np.ndarray, "layers images queries classes"]
    targets: Targets
    denoising: DenoisingInputs | None = None
    arithmetic: Arithmetic = FLOAT32
    bounded: bool = True
    further: Mapping[str, Float[np.ndarray, "layers images queries *_"]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


def predictions_of(inputs: Inputs) -> Mapping[str, np.ndarray]:
    """The predictions with respect to which losses are differentiated, layer by layer."""
    leaves = {"pred_bboxes": inputs.boxes, "pred_scores": inputs.logits}
    leaves |= {f"pred_{name}": array for name, array in inputs.further.items()}
    if inputs.denoising is not None:
        leaves |= {"dn_bboxes": inputs.denoising.boxes, "dn_scores": inputs.denoising.logits}
        leaves |= {f"dn_{name}": array for name, array in inputs.denoising.further.items()}
    return leaves
