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
    resized,
    sampled_each,
)
from detr_conformance.reference.matcher import flat
from detr_conformance.reference.normaliser import per_target
from detr_conformance.reference.rounding import tracked_like
from detr_conformance.reference.tape import Array
from detr_conformance.reference.terms import Term, TermInputs

Compared = tuple[Float[Array, "pairs *pixels"], Float[Array, "pairs *pixels"]]
"""Logits of each pair's prediction, and the mask of its target in the same size, or at the same points."""

Sampler = Callable[..., Float[Array, "pairs points"]]
"""Reads masks (pairs, height, width), each at points of its own (pairs, points, 2)."""


def in_target_size(given: TermInputs) -> Compared:
    """Predictions resized bilinearly to the size of the targets, which is that of the batch."""
    (images, queries), chosen = flat(given.pairs)
    wanted = given.constants["gt_masks"][chosen].astype(np.float64)
    return resized(given.layer.further["masks"][images, queries], *wanted.shape[1:]), wanted


def at_points(of_prediction: Sampler, of_target: Sampler, given: TermInputs) -> Compared:
    """Prediction and target of each pair at the points that are drawn for this target, each read in its own way."""
    (images, queries), chosen = flat(given.pairs)
    predicted, points = given.layer.further["masks"][images, queries], given.constants["loss_points"][chosen]
    wanted = tracked_like(given.layer.boxes, given.constants["gt_masks"][chosen])
    return of_prediction(predicted, points), of_target(wanted, points)


both_bilinearly = partial(at_points, sampled_each, sampled_each)
"""As Mask2Former reads them."""


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
    total=partial(sum_over_pairs, both_bilinearly, entropy_at_points),
    normaliser=per_target,
)
"""The binary cross-entropy, averaged over points, in every layer."""

DICE_AT_POINTS = Term(
    inputs=("masks",),
    needs="mask_points",
    total=partial(sum_over_pairs, both_bilinearly, dice_at_points),
    normaliser=per_target,
)
"""The dice loss over points, in every layer."""
