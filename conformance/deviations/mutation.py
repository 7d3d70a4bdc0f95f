"""Deviations that write into the arrays of their caller."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import LossResult
from detr_conformance.reference import Losses, RTDETRDetectionLoss


class GivesItsArrays(ReferencePort):
    """Hands the loss arrays that it can write into, and reports what it has changed."""

    def loss(self, case: LossCase) -> LossResult:
        """On a copy of the case."""
        given = deepcopy(case)
        result = super().loss(given)
        before = _arrays(case)
        changed = [name for name, each in _arrays(given).items() if not np.array_equal(each, before[name], True)]
        return replace(result, mutated=changed)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """On a copy of the cases: what one call changes, the next one gets."""
        return super().losses_in_turn(deepcopy(list(cases)))


def _arrays(case: LossCase) -> dict[str, np.ndarray]:
    indices = () if case.denoising is None else case.denoising.pos_idx
    slots = {f"dn_pos_idx[{image}]": each for image, each in enumerate(indices)}
    return {**case.float_arrays(), "gt_cls": case.gt_cls, **slots}


class LabelsZeroed(RTDETRDetectionLoss):
    """The classes of the targets become 0 before the denoising losses, in place."""

    def forward(self, preds: Any, batch: Any, *denoising: Any) -> Losses:  # type: ignore[override]
        """The ordinary losses by the right classes."""
        losses = super().forward(preds, batch)
        batch["cls"][:] = 0
        again = super().forward(preds, batch, *denoising)
        return {key: again[key] if "_dn" in key else loss for key, loss in losses.items()}


class TargetsNormalised(RTDETRDetectionLoss):
    """The target boxes are divided by the size of an image, in place."""

    def forward(self, preds: Any, batch: Any, *denoising: Any) -> Losses:  # type: ignore[override]
        """By the boxes as they came."""
        losses = super().forward(preds, batch, *denoising)
        batch["bboxes"][:] /= 640.0
        return losses


class PredictionsClamped(RTDETRDetectionLoss):
    """Predicted boxes are clamped to [0, 1], in place."""

    def forward(self, preds: Any, *args: Any, **options: Any) -> Losses:  # type: ignore[override]
        """Of the clamped boxes."""
        np.clip(preds[0], 0.0, 1.0, out=preds[0])
        return super().forward(preds, *args, **options)


PURE = "loss specification: a loss is a function of its arguments"

MUTATION_DEVIATIONS = (
    Deviation(
        "detrex-binary-cls-mutates-targets",
        "API",
        "The caller's labels were set to 0 for a loss without classes, before the denoising losses read them. Right: "
        "on a copy. Shows in the labels after a call.",
        "IDEA-Research/detrex, projects/dino/modeling/two_stage_criterion.py",
        loss=LabelsZeroed,
        port_class=GivesItsArrays,
    ),
    Deviation(
        "netspresso-normalises-targets-in-place",
        "API",
        "The caller's target boxes were divided by the size of the image, at every call once more. Right: on a copy. "
        "Shows in the boxes after a call.",
        "Nota-NetsPresso/netspresso-trainer, losses/detection/rtdetr.py",
        loss=TargetsNormalised,
        port_class=GivesItsArrays,
    ),
    Deviation(
        "plausible-predictions-clamped-in-place",
        "API",
        "Predicted boxes are clamped in the caller's own array. Right: nothing is clamped, and nothing is changed. "
        "Shows on a box beyond the image.",
        PURE,
        loss=PredictionsClamped,
        port_class=GivesItsArrays,
    ),
)
