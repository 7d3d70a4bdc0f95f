"""Masks: the focal and the dice loss of matched pairs, in plain torch and differentiated by autograd."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from detr_conformance.optimized.backends.torch.fading import LINEAR_ABOVE
from detr_conformance.optimized.mask_checks import check_mask_values, check_masks
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.targets import Pairs, Targets

ALPHA = 0.25
"""Share of the object's pixels in the focal term; those beside it have the rest."""

TERMS = ("mask", "dice")


class Masks(NamedTuple):
    """Predicted masks and those of the targets.

    Attributes:
        logits: of every query.
        of_targets: whether a pixel is on the object; in a size of their own.
    """

    logits: Float[Tensor, "layers images queries height width"]
    of_targets: Bool[Tensor, "targets gt_height gt_width"]

    def of_layers(self, layers: slice) -> Masks:
        """Those of some of the layers."""
        return Masks(self.logits[layers], self.of_targets)


class MaskLosses(NamedTuple):
    """Each loss of the last layer, and summed over the others."""

    mask: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    mask_aux: Float[Tensor, ""]
    dice_aux: Float[Tensor, ""]


def checked_masks(
    masks: object,
    gt_mask: object,
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    validate: bool,
) -> Masks | None:
    """Masks that fit the predictions and the targets, if there are any.

    On CUDA the values of `gt_mask` are looked at with `validate` only; otherwise one that is neither 0 nor 1 counts as
    the nearer of the two.

    Raises:
        TypeError, ValueError: an argument does not fit; it is named with its value.
    """
    if masks is None and gt_mask is None:
        return None
    logits, of_targets = check_masks(masks, gt_mask, pred_scores, len(targets.classes))
    if validate or of_targets.device.type == "cpu":
        check_mask_values(of_targets)
    return Masks(logits, of_targets > 0.5)


def mask_losses(masks: Masks, pairs: Pairs, weights: tuple[Weight, Weight]) -> MaskLosses:
    """The two losses of every layer, differentiable by the predicted masks.

        loss_mask = weight sum over pairs of the mean over pixels of focal(x, t)
        loss_dice = weight sum over pairs of 1 - (2 sum p t + 1) / (sum p + sum t + 1)

    with x the predicted mask, resized bilinearly to its target's size (corners not aligned), p = sigmoid(x), and t the
    mask of the target. Without a pair they are 0, and still connected to the graph of the predictions.

    Args:
        masks: of the layers that have a loss.
        pairs: a row for each of these layers.
        weights: of the focal and of the dice loss.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 4.4; Lin et al., Focal Loss, arXiv 1708.02002, equation 5;
    Milletari et al., V-Net, arXiv 1606.04797, section 3.
    """
    of_pairs = pair_losses(_resized(masks, pairs), masks.of_targets[pairs.targets])
    of_mask, of_dice = (each.sum(1) * weight for each, weight in zip(of_pairs, weights, strict=True))
    return MaskLosses(of_mask[-1], of_dice[-1], of_mask[:-1].sum(), of_dice[:-1].sum())


def _resized(masks: Masks, pairs: Pairs) -> Float[Tensor, "layers pairs gt_height gt_width"]:
    """The logits of matched queries in the size of the targets' masks, in the dtype of the arithmetic."""
    layers, _, queries, *_ = masks.logits.shape
    size, layer = masks.of_targets.shape[1:], torch.arange(layers, device=masks.logits.device)[:, None]
    matched = masks.logits[layer, pairs.rows // queries, pairs.rows % queries].to(arithmetic_dtype(masks.logits))
    resized = F.interpolate(matched.flatten(0, 1)[:, None], size, mode="bilinear", align_corners=False)
    return resized.view(layers, pairs.count, *size)


def pair_losses(
    x: Float[Tensor, "*pairs height width"], on_object: Bool[Tensor, "*pairs height width"]
) -> tuple[Float[Tensor, "*pairs"], Float[Tensor, "*pairs"]]:
    """Focal and dice loss of each pair; see `mask_losses`.

    With z = x beside the object and -x on it, sigmoid(z) = 1 - p_t is by how much a pixel is wrong, and softplus(z) its
    cross-entropy: no digits are lost where p is near 1.
    """
    z, p, axes = torch.where(on_object, -x, x), x.sigmoid(), (-2, -1)
    terms = z.sigmoid().square() * F.softplus(z, threshold=LINEAR_ABOVE)
    # Of two Python numbers `where` would make torch's default dtype.
    balance = torch.full_like(x, 1 - ALPHA).masked_fill_(on_object, ALPHA)
    focal = (balance * terms).sum(axes) / (x.shape[-2] * x.shape[-1])
    both, areas = p.masked_fill(~on_object, 0.0).sum(axes), p.sum(axes) + on_object.sum(axes, dtype=x.dtype)
    return focal, 1 - (2 * both + 1) / (areas + 1)
