"""Mutants of what a single member of the family decides: RF-DETR, Deformable DETR, mmdetection, Paddle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.query_groups import every_loss_over
from detr_conformance.reference import Guard, LossConfig, LossSpec, replace_in
from detr_conformance.reference.family import DEFORMABLE, MMDET, PADDLE, RFDETR
from detr_conformance.reference.normaliser import Tally, per_query, per_target


def floor_added(spec: LossSpec) -> LossSpec:
    """What is a floor is added."""
    return replace_in(replace_in(spec, "guard", Guard(1e-7)), "matcher.guard", Guard(1e-7))


def ordinary_targets(tally: Tally) -> int | float:
    """The targets, without the groups of denoising queries."""
    return max(sum(tally.targets), 1)


def alpha_of_focal(right: Callable[[LossConfig], LossConfig], config: LossConfig) -> LossConfig:
    """Alpha is 0.25 in the varifocal loss too."""
    return replace(right(config), alpha=0.25)


def gamma_as_asked(_right: Callable[[LossConfig], LossConfig], config: LossConfig) -> LossConfig:
    """Gamma is what the caller asks for."""
    return config


MEMBER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-floor-added",
        "BOX",
        "1e-7 is added to the areas. Right under this profile: they are at least 1e-7. Shows on tiny boxes.",
        "roboflow/rf-detr, rfdetr/models",
        floor_added,
        home=RFDETR,
    ),
    Mutant(
        "plausible-dn-groups-not-in-normaliser",
        "DN",
        "Denoising losses are divided by the number of targets. Right: times that of the groups. Shows with two of "
        "them.",
        "IDEA-Research/DINO, models/dino/dino.py",
        every_loss_over(ordinary_targets),
        home=DEFORMABLE,
    ),
    Mutant(
        "plausible-deformable-heeds-gamma",
        "CLASS",
        "The exponent of the focal loss is an option. Right under this profile: 2. Shows with another gamma.",
        "fundamentalvision/Deformable-DETR, models/segmentation.py: sigmoid_focal_loss",
        wrapped("options", gamma_as_asked),
        home=DEFORMABLE,
    ),
    Mutant(
        "plausible-focal-mean-over-queries",
        "CLASS",
        "The focal loss is averaged over the queries, and not multiplied by their number again. Right: divided by the "
        "number of targets. Shows wherever the two differ.",
        "fundamentalvision/Deformable-DETR, models/segmentation.py: sigmoid_focal_loss",
        lambda spec: replace_in(spec, "normaliser.focal", per_query),
        home=DEFORMABLE,
    ),
    Mutant(
        "plausible-mmdet-over-targets",
        "REG",
        "Losses are divided by the number of targets. Right under this profile: by that of matched pairs. Shows with "
        "fewer queries than targets.",
        "open-mmlab/mmdetection, mmdet/models/dense_heads/detr_head.py",
        every_loss_over(per_target),
        home=MMDET,
    ),
    Mutant(
        "plausible-focal-alpha-in-varifocal",
        "CLASS",
        "The varifocal loss has the alpha 0.25 of the focal one. Right under this profile: 0.75. Shows in any "
        "background.",
        "PaddlePaddle/PaddleDetection, ppdet/modeling/losses/detr_loss.py",
        wrapped("options", alpha_of_focal),
        home=PADDLE,
    ),
)
