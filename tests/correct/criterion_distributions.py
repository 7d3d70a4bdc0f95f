"""D-FINE's two losses of distributions, step by step as the paper has them.

Logits of sides come as (queries, 4, bins), boxes in centre form.
"""

from __future__ import annotations

import torch
from torch.nn import functional

REACH, CURVATURE = 0.5, 0.25
TEMPERATURE = 5.0


def weighting(count, like):
    """The offset of each of so many bins: from -2a to 2a, those in between by the power of a base."""
    last, base = count - 1, REACH / CURVATURE + 1
    offsets = [-2 * REACH]
    for n in range(1, last):
        exponent = abs(2 * n - last) / (last - 2)
        offsets.append((base**exponent - 1) * (CURVATURE if 2 * n >= last else -CURVATURE))
    return torch.tensor([*offsets, 2 * REACH], dtype=like.dtype)


def offsets_of(targets, references):
    """Of left, top, right and bottom, as shares of the reference box."""
    x, y, w, h = references.unbind(-1)
    tx, ty, tw, th = targets.unbind(-1)
    left, right = (x - (tx - tw / 2)) / w, ((tx + tw / 2) - x) / w
    top, bottom = (y - (ty - th / 2)) / h, ((ty + th / 2) - y) / h
    return torch.stack([left, top, right, bottom], dim=-1) - 0.5


def neighbours(offsets, bins):
    """The bin on the left of each offset, and the shares of it and of the next; all of one of them beyond the ends."""
    left = (torch.bucketize(offsets, bins, right=True) - 1).clamp(0, len(bins) - 2)
    right_share = ((offsets - bins[left]) / (bins[left + 1] - bins[left])).clamp(0, 1)
    return left, 1 - right_share, right_share


def fgl(logits, targets, references, ious):
    """The sum over all pairs."""
    left, left_share, right_share = neighbours(offsets_of(targets, references), weighting(logits.shape[-1], logits))
    flat = logits.flatten(0, 1)
    by_left = functional.cross_entropy(flat, left.flatten(), reduction="none").view_as(left_share)
    by_right = functional.cross_entropy(flat, left.flatten() + 1, reduction="none").view_as(left_share)
    return (ious.detach()[:, None] * (left_share * by_left + right_share * by_right)).sum()


def ddf(logits, teacher, weights, is_matched, counts):
    """Mean over the matched queries and mean over the others, weighted by the roots of their numbers."""
    taught = (teacher.detach() / TEMPERATURE).softmax(-1)
    divergence = functional.kl_div((logits / TEMPERATURE).log_softmax(-1), taught, reduction="none").sum(-1)
    of_sides = weights.detach()[..., None] * TEMPERATURE**2 * divergence
    roots = [number**0.5 for number in counts]
    means = [of_sides[chosen].mean() if chosen.any() else 0 for chosen in (is_matched, ~is_matched)]
    return sum(root * mean for root, mean in zip(roots, means, strict=True)) / sum(roots)
