"""Mutants that write into the arrays of their caller."""

from __future__ import annotations

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.state import Asked, MoreEffects, leaving
from detr_conformance.reference import Inputs, LossConfig, LossSpec


class LabelsZeroed(MoreEffects):
    """The classes of the targets become 0 before the denoising losses, in place."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The ordinary losses by the right classes, those of denoising queries by class 0."""
        zeroed = wrapped(
            "denoising.targets", lambda right, targets: right(targets._replace(classes=0 * targets.classes))
        )
        return zeroed(spec), config, inputs

    def after(self, inputs: Inputs) -> None:
        """What the caller finds."""
        super().after(inputs)
        inputs.targets.classes[:] = 0


class TargetsNormalised(MoreEffects):
    """The target boxes are divided by the size of an image, in place."""

    def after(self, inputs: Inputs) -> None:
        """The losses are those of the boxes as they came."""
        super().after(inputs)
        inputs.targets.boxes[:] /= 640.0


class PredictionsClamped(MoreEffects):
    """Predicted boxes are clamped to [0, 1], in place."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The losses are those of the clamped boxes."""
        np.clip(inputs.boxes, 0.0, 1.0, out=inputs.boxes)
        return spec, config, inputs


PURE = "loss specification: a loss is a function of its arguments"

MUTATION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "detrex-binary-cls-mutates-targets",
        "API",
        "The caller's labels were set to 0 for a loss without classes, before the denoising losses read them. Right: "
        "on a copy. Shows in the labels after a call.",
        "IDEA-Research/detrex, projects/dino/modeling/two_stage_criterion.py",
        leaving(LabelsZeroed),
    ),
    Mutant(
        "netspresso-normalises-targets-in-place",
        "API",
        "The caller's target boxes were divided by the size of the image, at every call once more. Right: on a copy. "
        "Shows in the boxes after a call.",
        "Nota-NetsPresso/netspresso-trainer, losses/detection/rtdetr.py",
        leaving(TargetsNormalised),
    ),
    Mutant(
        "plausible-predictions-clamped-in-place",
        "API",
        "Predicted boxes are clamped in the caller's own array. Right: nothing is clamped, and nothing is changed. "
        "Shows on a box beyond the image.",
        PURE,
        leaving(PredictionsClamped),
    ),
)
