"""The extra terms of masks: what is compared, and the two losses of it.

Reference: Carion et al., DETR, arXiv 2005.12872, section 4.4 and appendix (panoptic segmentation); at points: Cheng et
al., Mask2Former, arXiv 2112.01527, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.layers import Stack, Weights, last
from detr_conformance.reference.masks import (
    OfMap,
    dice_at_points,
    dice_loss,
    entropy_at_points,
    mask_loss,
    nearest_each,
    resized,
    sampled_each,
    sampled_each_with_border,
)
from detr_conformance.reference.matcher import flat
from detr_conformance.reference.normaliser import per_target
from detr_conformance.reference.rounding import tracked_like
from detr_conformance.reference.tape import Array
from detr_conformance.reference.terms import Term, TermInputs

Compared = tuple[Float[Array, "pairs *pixels"], Float[Array, "pairs *pixels"]]
"""Logits of each pair's prediction, and the mask of its target in the same size, or at the same points."""


def in_target_size(given: TermInputs) -> Compared:
    """Predictions resized bilinearly to the size of the targets, which is that of the batch."""
    (images, queries), chosen = flat(given.pairs)
    wanted = given.constants["gt_masks"][chosen].astype(np.float64)
    return resized(given.layer.further["masks"][images, queries], *wanted.shape[1:]), wanted


def at_points_of_target(given: TermInputs) -> Compared:
    """Prediction and target of each pair, both bilinearly, at the points that are drawn for this target."""
    (images, queries), chosen = flat(given.pairs)
    wanted = tracked_like(given.layer.boxes, given.constants["gt_masks"][chosen])
    points = given.constants["loss_points"][chosen]
    return sampled_each(given.layer.further["masks"][images, queries], points), sampled_each(wanted, points)


def at_nearest_points_of_target(given: TermInputs) -> Compared:
    """At the same points predictions bilinearly, beyond their outermost centres as there; targets by nearest pixels."""
    (images, queries), chosen = flat(given.pairs)
    wanted = tracked_like(given.layer.boxes, given.constants["gt_masks"][chosen])
    points = given.constants["loss_points"][chosen]
    masks = given.layer.further["masks"][images, queries]
    return sampled_each_with_border(masks, points), nearest_each(wanted, points)


def sum_over_pairs(
    compared: Callable[[TermInputs], Compared], of_pair: Callable[..., OfMap], given: TermInputs
) -> Array:
    """The sum of a loss of each pair's two masks."""
    return np.sum(of_pair(*compared(given)))


def main_layer(stack: Stack) -> Weights:
    """The last layer of ordinary queries."""
    return [0.0] * stack.count if stack.is_denoising else last(stack)


MASK = Term(
    inputs=("masks",),
    needs="masks",
    total=partial(sum_over_pairs, in_target_size, mask_loss),
    normaliser=per_target,
    layers=main_layer,
)
"""The focal loss, averaged over the pixels of the batch."""

DICE = Term(
    inputs=("masks",),
    needs="masks",
    total=partial(sum_over_pairs, in_target_size, dice_loss),
    normaliser=per_target,
    layers=main_layer,
)
"""The dice loss."""

MASK_AT_POINTS = Term(
    inputs=("masks",),
    needs="mask_points",
    total=partial(sum_over_pairs, at_points_of_target, entropy_at_points),
    normaliser=per_target,
)
"""The binary cross-entropy, averaged over points, in every layer."""

DICE_AT_POINTS = Term(
    inputs=("masks",),
    needs="mask_points",
    total=partial(sum_over_pairs, at_points_of_target, dice_at_points),
    normaliser=per_target,
)
"""The dice loss over points, in every layer."""
