"""RF-DETR for segmentation: its spec, which needs none of its packages."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from detr_conformance.reference import FAMILY, LossConfig, MatcherConfig
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.family import MASKDINO
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reference.mask_terms import at_nearest_points_of_target, sum_over_pairs
from detr_conformance.reference.masks import PointCounts, dice_at_points, entropy_at_points, nearest_entropy_costs
from detr_conformance.reference.normaliser import targets_of_all_groups

_CRITERION = "https://github.com/roboflow/rf-detr, rfdetr/models/criterion.py"
_MATCHER = "https://github.com/roboflow/rf-detr, rfdetr/models/matcher.py"
_CONFIG = "https://github.com/roboflow/rf-detr, rfdetr/config.py"


def gains_with_masks(config: LossConfig) -> MatcherConfig:  # noqa: ARG001  # the signature
    """Gains class 2, bbox 5, giou 2, mask 5, dice 5."""
    return MatcherConfig(cost_gain={"class": 2.0, "bbox": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0})


def points_of_losses(height: int, width: int) -> int:
    """A sixteenth of the pixels, at least as many as rows."""
    return max(height, height * width // 16)


def points_of_matcher(height: int, width: int) -> int:
    """A sixteenth of the pixels."""
    return height * width // 16


_TERMS = {
    name: replace(
        MASKDINO.extra_terms[name],
        total=partial(sum_over_pairs, at_nearest_points_of_target, of_pair),
        normaliser=targets_of_all_groups,
    )
    for name, of_pair in (("mask", entropy_at_points), ("dice", dice_at_points))
}

RFDETR_MASKS = differs(
    FAMILY["rfdetr"],
    "rfdetr-masks",
    extra_terms=(
        _TERMS,
        "Every layer has Mask DINO's losses; targets are read by nearest pixels, and the edge of a prediction goes on.",
        _CRITERION,
    ),
    mask_points=(
        PointCounts(losses=points_of_losses, matcher=points_of_matcher),
        "Training draws a sixteenth of the pixels of a predicted mask, in the losses at least as many as it has rows.",
        _CRITERION,
    ),
    matcher__configured=(gains_with_masks, "Gains are class 2, bbox 5, giou 2, mask 5 and dice 5.", _CONFIG),
    matcher__mask_costs=(nearest_entropy_costs, "Masks are compared too, read as in the losses.", _MATCHER),
    keys=(
        LayerKeys(
            dict.fromkeys(("ia_bce", "focal"), ("ce",)),
            box_names={"bbox": "bbox", "giou": "giou", "mask": "mask_ce", "dice": "mask_dice"},
            auxiliary="loss_{term}_{layer}",
            encoder="loss_{term}_enc",
        ),
        "Losses of masks are called loss_mask_ce and loss_mask_dice.",
        _CRITERION,
    ),
)
"""RF-DETR for segmentation, of the `rfdetr` package."""
