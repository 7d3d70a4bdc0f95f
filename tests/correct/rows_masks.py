"""Two losses of masks, their sizes changed by multiplying with a matrix on either side."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def mask_sums(masks, gt_masks):
    """The sums of both losses over pairs.

    Args:
        masks: logits of each pair.
        gt_masks: the masks of their targets, in the size of the batch.
    """
    height, width = gt_masks.shape[1:]
    x = spread(masks.shape[1], height, masks) @ masks @ spread(masks.shape[2], width, masks).T
    on, off = gt_masks.to(x), 1 - gt_masks.to(x)
    p, q = torch.sigmoid(x), torch.sigmoid(-x)
    focal = -0.25 * on * q.square() * logsigmoid(x) - 0.75 * off * p.square() * logsigmoid(-x)
    both = torch.einsum("nhw,nhw->n", p, on)
    either = p.sum(dim=(1, 2)) + on.sum(dim=(1, 2))
    return focal.sum() / (height * width), ((either - 2 * both) / (either + 1)).sum()


def spread(pixels, wanted, like):
    """The share of each of so many pixels in each of those that are wanted, whose centres lie within theirs."""
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * pixels / wanted - 0.5
    away = (centres.clamp(0, pixels - 1)[:, None] - torch.arange(pixels)).abs()
    return (1 - away).clamp(min=0).to(like)
