"""What it costs in matching to let a query answer for a target by their masks, in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from detr_conformance.optimized.backends.torch.fading import LINEAR_ABOVE
from detr_conformance.optimized.masks import ALPHA, Masks

Points = Float[Tensor, "points 2"]


def draw_points(
    images: int, count: int, generator: torch.Generator | None, device: torch.device
) -> Float[Tensor, "images points 2"]:
    """Points of each image, uniformly from all of it: x and y as shares of width and height."""
    return torch.rand(images, count, 2, generator=generator, device=device, dtype=torch.float32)


def add_mask_costs(
    costs: Float[Tensor, "layers targets queries"],
    masks: Masks,
    counts: tuple[int, ...],
    points: Float[Tensor, "images points 2"],
    gains: tuple[float, float],
) -> None:
    """Add to the costs what the masks cost: every target against the queries of its own image.

    Args:
        costs: where they are added.
        masks: predicted masks of the same layers, and those of the targets.
        counts: number of targets of each image.
        points: where the masks are compared, in every layer alike.
        gains: of the focal and of the dice cost.
    """
    end = 0
    for image, count in enumerate(counts):
        own, end = slice(end, end + count), end + count
        t = sampled(masks.of_targets[own], points[image])
        for layer, logits in enumerate(masks.logits[:, image] if count else ()):
            of_mask, of_dice = mask_costs(sampled(logits, points[image]), t)
            costs[layer, own] += gains[0] * of_mask + gains[1] * of_dice


def mask_costs(
    x: Float[Tensor, "queries points"], t: Float[Tensor, "targets points"]
) -> tuple[Float[Tensor, "targets queries"], Float[Tensor, "targets queries"]]:
    """The focal and the dice cost of every target with every query of one image.

        mask = mean over points of t focal(x, 1) + (1 - t) focal(x, 0)
        dice = 1 - (2 sum p t + 1) / (sum p + sum t + 1)

    Args:
        x: logits of the predicted masks at the points.
        t: the targets' masks there, between 0 and 1 across an object's edge.

    Reference: Cheng et al., Mask2Former, arXiv 2112.01527, section 3.3 (costs on sampled points).
    """
    p, rest = x.sigmoid(), x.neg().sigmoid()
    as_object = ALPHA * rest.square() * F.softplus(-x, threshold=LINEAR_ABOVE)
    as_rest = (1 - ALPHA) * p.square() * F.softplus(x, threshold=LINEAR_ABOVE)
    mask = as_rest.mean(-1) + t @ (as_object - as_rest).T / t.shape[1]
    areas = t.sum(-1)[:, None] + p.sum(-1)
    return mask, 1 - (2 * (t @ p.T) + 1) / (areas + 1)


def sampled(masks: Shaped[Tensor, "masks height width"], points: Points) -> Float[Tensor, "masks points"]:
    """Values of masks at points, bilinearly; around a mask everything is 0.

    In float64: what is multiplied in float32 has three digits on a device that was told to use TF32, or under autocast.
    """
    grid = (2 * points.to(torch.float64) - 1)[None, None]
    maps = masks.to(torch.float64)[None]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0, :, 0]
