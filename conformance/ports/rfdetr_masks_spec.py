"""RF-DETR for segmentation: its spec, and that of `transformers`; they need neither package."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float

from detr_conformance.ports.rfdetr_mask_readers import nearest_each, nearest_with_zeros, sampled_each_with_border
from detr_conformance.reference import FAMILY, LossConfig, MatcherConfig
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.classification import binary_cross_entropy
from detr_conformance.reference.family import MASKDINO
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reference.mask_terms import Sampler, at_points, sum_over_pairs
from detr_conformance.reference.masks import (
    MaskCosts,
    PointCounts,
    costs_at_points,
    dice_at_points,
    entropy_at_points,
    sampled_each,
)
from detr_conformance.reference.normaliser import per_target_and_group
from detr_conformance.reference.terms import Term

_CRITERION = "https://github.com/roboflow/rf-detr, rfdetr/models/criterion.py"
_MATCHER = "https://github.com/roboflow/rf-detr, rfdetr/models/matcher.py"
_CONFIG = "https://github.com/roboflow/rf-detr, rfdetr/config.py"


def gains_with_masks(config: LossConfig) -> MatcherConfig:  # noqa: ARG001  # the signature
    """Gains class 2, bbox 5, giou 2, mask 5, dice 5."""
    return MatcherConfig(cost_gain={"class": 2.0, "bbox": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0})


def costs_read_by(
    of_prediction: Sampler,
    of_target: Sampler,
    masks: Float[np.ndarray, "queries height width"],
    gt_mask: Float[np.ndarray, "targets gt_height gt_width"],
    points: Float[np.ndarray, "points 2"],
) -> MaskCosts:
    """Binary cross-entropy and dice loss of every query with every target, masks read in these ways."""
    x, t = (
        read(each, np.broadcast_to(points, (len(each), *points.shape)))
        for read, each in ((of_prediction, masks), (of_target, gt_mask))
    )
    return costs_at_points(x, t, binary_cross_entropy)


def points_of_losses(height: int, width: int) -> int:
    """A sixteenth of the pixels, at least as many as rows."""
    return max(height, height * width // 16)


def points_of_matcher(height: int, width: int) -> int:
    """A sixteenth of the pixels."""
    return height * width // 16


def terms_read_by(of_prediction: Sampler, of_target: Sampler) -> dict[str, Term]:
    """Mask DINO's losses of masks that are read in these ways."""
    return {
        name: replace(
            MASKDINO.extra_terms[name],
            total=partial(sum_over_pairs, partial(at_points, of_prediction, of_target), of_pair),
            normaliser=per_target_and_group,
        )
        for name, of_pair in (("mask", entropy_at_points), ("dice", dice_at_points))
    }


RFDETR_MASKS = differs(
    FAMILY["rfdetr"],
    "rfdetr-masks",
    extra_terms=(
        terms_read_by(sampled_each_with_border, nearest_each),
        "Every layer has Mask DINO's losses; targets are read by nearest pixels, and the edge of a prediction goes on.",
        _CRITERION,
    ),
    mask_points=(
        PointCounts(losses=points_of_losses, matcher=points_of_matcher),
        "Training draws a sixteenth of the pixels of a predicted mask, in the losses at least as many as it has rows.",
        _CRITERION,
    ),
    matcher__configured=(gains_with_masks, "Gains are class 2, bbox 5, giou 2, mask 5 and dice 5.", _CONFIG),
    matcher__mask_costs=(
        partial(costs_read_by, sampled_each_with_border, nearest_each),
        "Masks are compared too, read as in the losses.",
        _MATCHER,
    ),
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


def gains_of_masks_in_loss(config: LossConfig) -> MatcherConfig:
    """Gains class 2, bbox 5, giou 2; masks cost what they weigh in the loss."""
    of_masks = {term: config.loss_gain.get(term, 1.0) for term in ("mask", "dice")}
    return MatcherConfig(cost_gain={"class": 2.0, "bbox": 5.0, "giou": 2.0, **of_masks})


_TRANSFORMERS = "https://github.com/huggingface/transformers, src/transformers/loss/loss_rf_detr.py"

TRANSFORMERS_RFDETR = differs(
    FAMILY["lwdetr"],
    "transformers-rfdetr",
    extra_terms=(
        terms_read_by(sampled_each, nearest_with_zeros),
        "Every layer has Mask DINO's losses; targets are read by nearest pixels.",
        _TRANSFORMERS,
    ),
    mask_points=(RFDETR_MASKS.mask_points, RFDETR_MASKS.differences["mask_points"].sentence, _CRITERION),
    matcher__configured=(
        gains_of_masks_in_loss,
        "Gains are class 2, bbox 5 and giou 2; masks cost what they weigh in the loss.",
        _TRANSFORMERS,
    ),
    matcher__mask_costs=(
        partial(costs_read_by, sampled_each, nearest_with_zeros),
        "Masks are compared too, read as in the losses.",
        _TRANSFORMERS,
    ),
    keys=(RFDETR_MASKS.keys, RFDETR_MASKS.differences["keys"].sentence, _TRANSFORMERS),
)
"""RF-DETR for segmentation, as `transformers` has it."""
