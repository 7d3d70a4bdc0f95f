"""The noise of denoising queries, for all of them at once.

`halves` is 2 K: every group has a positive and a negative half, and each half holds every target once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LOGIT_EPS = 1e-6
"""Boxes are clipped this far inside (0, 1) before the inverse sigmoid."""

BELOW_ONE = 1.0 - 2.0**-23
"""In float32 the largest u for which 1 + u is below 2."""


def clipped_logit(boxes: Float[Tensor, "*axes 4"]) -> Float[Tensor, "*axes 4"]:
    """log(p / (1 - p)) of numbers that are clipped first."""
    return boxes.logit(LOGIT_EPS)


def noisy_labels(
    classes: Int64[Tensor, " targets"],
    halves: int,
    num_classes: int,
    cls_noise_ratio: float,
    generator: torch.Generator | None,
) -> Int64[Tensor, "{halves} targets"]:
    """Replace labels, with probability cls_noise_ratio / 2, by a class drawn uniformly from all of them.

    Args:
        classes: class of each target.
        halves: how many halves to make; each gets draws of its own.
        num_classes: number of classes.
        cls_noise_ratio: twice the probability, in [0, 2].
        generator: source of the draws.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (label flipping).
    """
    shape = halves, len(classes)
    replaced = torch.rand(shape, device=classes.device, generator=generator) < cls_noise_ratio / 2
    drawn = torch.randint(num_classes, shape, device=classes.device, generator=generator)
    return torch.where(replaced, drawn, classes)


def noisy_boxes(
    boxes: Float[Tensor, "targets 4"],
    halves: int,
    box_noise_scale: float,
    generator: torch.Generator | None,
    logits: Callable[[Tensor], Tensor] = clipped_logit,
) -> Float[Tensor, "{halves} targets 4"]:
    """Move every edge of every box, and return the boxes as logits.

        edge + sign u (half the width or height) box_noise_scale

    with u uniform in [0, 1) for positives, in [1, 2) for negatives; clipped to the image. A negative's width or height
    may come out below 0, which the logit clips to its smallest value.

    Args:
        boxes: box of each target, centre form.
        halves: how many halves to make, positive and negative in turn.
        box_noise_scale: at 0 the boxes come back as they are, not as logits (quirk).
        generator: source of signs and distances.
        logits: the inverse sigmoid, which has to clip.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (lambda_1 and lambda_2).
    """
    if box_noise_scale == 0:  # quirk: not in logit form
        return boxes.expand(halves, -1, -1)
    centre, half_size = boxes[:, :2], boxes[:, 2:] / 2
    # Low and high edges apart from each other, so that both are read from the memory in one go.
    edges = torch.stack((centre - half_size, centre + half_size))
    moved = torch.addcmul(edges[:, None], _shifts(boxes, halves, generator), half_size * box_noise_scale)
    low, high = moved.clamp_(0.0, 1.0).unbind()
    return logits(torch.cat(((low + high).div_(2), high - low), dim=-1))


def _shifts(
    boxes: Float[Tensor, "targets 4"], halves: int, generator: torch.Generator | None
) -> Float[Tensor, "2 {halves} targets 2"]:
    """How far each low and each high edge moves: by less than 1 in positive halves, from 1 to 2 in negative ones.

    One draw from (-1, 1) has a sign and a distance that are independent of each other, where two draws cost twice.
    """
    shifts = boxes.new_empty(2, halves, len(boxes), 2).uniform_(-BELOW_ONE, BELOW_ONE, generator=generator)
    negative = torch.arange(halves, device=boxes.device).remainder_(2).to(boxes.dtype)
    return shifts.add_(torch.copysign(negative[:, None, None], shifts))
