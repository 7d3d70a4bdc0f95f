"""Masks: two losses of a predicted mask, pixel by pixel and by overlap, and what they cost in matching.

A predicted mask is a map of logits x, with p = sigmoid(x); a target's mask t is 1 on the object and 0 beside it. The
two may have different sizes: a pixel is a cell of the image, its value belongs to the centre of the cell, and between
the centres of two neighbours a mask is a straight line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import add
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.reference.classification import balance, binary_cross_entropy, sigmoid, truth
from detr_conformance.reference.rounding import Tracked, magnitude, plain, tracked_like
from detr_conformance.reference.tape import Array

ALPHA = 0.25
"""Share of the object's pixels in the focal term; those beside it have the rest."""
GAMMA = 2.0
"""How fast a right pixel fades from the focal term."""

Map = Float[Array, "*batch height width"]
OfMap = Float[Array, "*batch"]


class Tap(NamedTuple):
    """One of the pixels that a value between pixels is made of, along one axis.

    Attributes:
        pixel: where it is, for each value.
        weight: its share in each value.
    """

    pixel: Int64[np.ndarray, "*values"]
    weight: Float[np.ndarray, "*values"]


def taps(positions: Float[np.ndarray, "*values"], pixels: int) -> list[Tap]:
    """The pixels around each position, and the share max(0, 1 - |position - pixel|) of each.

    Two have a share. The two beyond them would get one if the position were rounded across the centre of a pixel, which
    their error bounds have to know; where no value can, they are left out. Beyond the edge of the mask there are no
    pixels, and no shares.

    Args:
        positions: in pixels; that of the first centre is 0.
        pixels: how many there are.
    """
    found, first = [], np.floor(plain(positions)).astype(np.int64)
    for offset in (-1, 0, 1, 2) if isinstance(positions, Tracked) else (0, 1):
        pixel = first + offset
        weight = np.maximum(1.0 - np.abs(positions - pixel), 0.0)
        inside = (pixel >= 0) & (pixel < pixels)
        found.append(Tap(np.clip(pixel, 0, pixels - 1), np.where(inside, weight, 0.0)))
    having = [tap for tap in found if np.any(plain(tap.weight)) or np.any(magnitude(tap.weight))]
    return having or found[:1]  # where there are no values


def resized(masks: Float[Array, "*batch h w"], height: int, width: int) -> Float[Array, "*batch {height} {width}"]:
    """Masks in another size, bilinearly, corners not aligned.

        row of the result i  ->  (i + 1/2) h / H - 1/2, moved to the outermost row if it is beyond; columns likewise

    Args:
        masks: h x w pixels.
        height: H, at least 1.
        width: W, at least 1.
    """
    rows, columns = (
        taps(_centres(size, pixels, masks), pixels)
        for size, pixels in zip((height, width), masks.shape[-2:], strict=True)
    )
    of_rows: Any = reduce(add, (masks[..., row.pixel, :] * row.weight[:, None] for row in rows))
    return reduce(add, (of_rows[..., column.pixel] * column.weight for column in columns))


def _centres(size: int, pixels: int, masks: Map) -> Float[np.ndarray, " {size}"]:
    """Positions of the centres of so many cells, none before the first or after the last of so many pixels."""
    positions = tracked_like(masks, np.arange(size) + 0.5) * (pixels / size) - 0.5
    return np.minimum(np.maximum(positions, 0.0), pixels - 1.0)


def sampled(masks: Map, points: Float[np.ndarray, "points 2"]) -> Float[Array, "*batch points"]:
    """Values of masks at points, bilinearly; around a mask everything is 0.

    Args:
        masks: of one image, or of its targets.
        points: x and y as shares of width and height, from 0 to 1.
    """
    parts = (
        masks[..., row.pixel, column.pixel] * row.weight * column.weight for row, column in _taps_at(points, masks)
    )
    return reduce(add, parts)


def sampled_each(
    masks: Float[Array, "masks height width"], points: Float[np.ndarray, "masks points 2"]
) -> Float[Array, "masks points"]:
    """Values of masks, each at points of its own; otherwise as `sampled`."""
    return between(masks, *positions_of(points, masks))


def between(
    masks: Float[Array, "masks height width"],
    columns: Float[np.ndarray, "masks points"],
    rows: Float[np.ndarray, "masks points"],
) -> Float[Array, "masks points"]:
    """Values of masks bilinearly, each at positions of its own in pixels; that of the first centre is 0."""
    each = np.arange(len(masks))[:, None]
    both = product(taps(rows, masks.shape[1]), taps(columns, masks.shape[2]))
    return reduce(add, (masks[each, row.pixel, column.pixel] * row.weight * column.weight for row, column in both))


def _taps_at(points: Float[np.ndarray, "*of_masks points 2"], masks: Map) -> list[tuple[Tap, Tap]]:
    """Row and column of every pixel that a value at these points is made of."""
    columns, rows = (
        taps(positions, pixels)
        for positions, pixels in zip(positions_of(points, masks), masks.shape[:-3:-1], strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def positions_of(
    points: Float[np.ndarray, "*of_masks points 2"], masks: Map
) -> list[Float[np.ndarray, "*of_masks points"]]:
    """Where points lie along columns and along rows, in pixels; that of the first centre is 0."""
    # Libraries measure from the middle of the mask, which costs digits at its edge: so does this, for its error bound.
    from_middle = tracked_like(masks, points) * 2.0 - 1.0
    sizes = masks.shape[:-3:-1]
    return [(from_middle[..., axis] + 1.0) * (pixels / 2) - 0.5 for axis, pixels in enumerate(sizes)]


def focal(x: Array, t: np.ndarray) -> Array:
    """a_t (1 - p_t)^gamma BCE(x, t), entry by entry, for t of 0 and 1.

    Reference: Lin et al., Focal Loss, arXiv 1708.02002, equation 5; for masks: Carion et al., DETR, arXiv 2005.12872,
    section 4.4.
    """
    return balance(t, ALPHA) * (1.0 - truth(x, t)) ** GAMMA * binary_cross_entropy(x, t)


def mask_loss(x: Map, t: Float[np.ndarray, "*batch height width"]) -> OfMap:
    """The focal loss of each mask, averaged over its pixels, >= 0.

    Args:
        x: logits.
        t: 1 on the object, else 0.
    """
    pixels = x.shape[-2] * x.shape[-1]
    return np.sum(focal(x, t), axis=(-2, -1)) / pixels


def dice_loss(x: Map, t: Float[Array, "*batch height width"]) -> OfMap:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1) of each mask, sums over its pixels; from 0 to 1.

    The 1 keeps an empty mask from dividing by 0.

    Args:
        x: logits.
        t: 1 on the object, else 0; at points between pixels a number between them.

    Reference: Milletari et al., V-Net, arXiv 1606.04797, section 3, without the squares; Carion et al., DETR, arXiv
    2005.12872, section 4.4.
    """
    p, axes = sigmoid(x), (-2, -1)
    return 1.0 - (2.0 * np.sum(p * t, axis=axes) + 1.0) / (np.sum(p, axis=axes) + np.sum(t, axis=axes) + 1.0)


def entropy_at_points(x: Float[Array, "*batch points"], t: Float[Array, "*batch points"]) -> OfMap:
    """The binary cross-entropy of each mask, averaged over its points, >= 0.

    Args:
        x: logits.
        t: the target's mask there, from 0 to 1.

    Reference: Cheng et al., Mask2Former, arXiv 2112.01527, section 3.3.
    """
    return np.sum(binary_cross_entropy(x, t), axis=-1) / x.shape[-1]


def dice_at_points(x: Float[Array, "*batch points"], t: Float[Array, "*batch points"]) -> OfMap:
    """The dice loss of each mask, points in the place of pixels; arguments as in `entropy_at_points`."""
    return dice_loss(x[..., None, :], t[..., None, :])  # a mask with one row


def draw_points(count: int, generator: np.random.Generator) -> Float[np.ndarray, "points 2"]:
    """Points of one image, uniformly from all of it."""
    return generator.random((count, 2))


@dataclass(frozen=True)
class PointCounts:
    """How many points training draws for a mask, from height and width of predicted masks.

    Attributes:
        losses: for each pair.
        matcher: for all masks that are compared with each other.
    """

    losses: Callable[[int, int], int]
    matcher: Callable[[int, int], int]


class MaskCosts(NamedTuple):
    """What it costs to let a query answer for a target by their masks, before gains.

    Attributes:
        mask: the loss of single pixels.
        dice: the dice loss.
    """

    mask: Float[np.ndarray, "queries targets"]
    dice: Float[np.ndarray, "queries targets"]


def mask_costs(
    masks: Float[np.ndarray, "queries height width"],
    gt_mask: Float[np.ndarray, "targets gt_height gt_width"],
    points: Float[np.ndarray, "points 2"],
    of_pixel: Callable[[Array, np.ndarray], Array] = focal,
) -> MaskCosts:
    """The two losses of every query with every target of one image, on points in the place of pixels.

        mask = mean over points of t of_pixel(x, 1) + (1 - t) of_pixel(x, 0)
        dice = 1 - (2 sum p t + 1) / (sum p + sum t + 1)

    with x and t the two masks at the points. Across an object's edge t lies between 0 and 1.

    Args:
        masks: logits.
        gt_mask: 1 on the object, else 0.
        points: see `sampled`.
        of_pixel: the loss of single pixels, from logits and 1 or 0.

    Reference: Cheng et al., Mask2Former, arXiv 2112.01527, section 3.3 (costs on sampled points).
    """
    return costs_at_points(sampled(masks, points), sampled(gt_mask, points), of_pixel)


def costs_at_points(
    x: Float[Array, "queries points"],
    t: Float[Array, "targets points"],
    of_pixel: Callable[[Array, np.ndarray], Array],
) -> MaskCosts:
    """The two losses of every query with every target, from the values of both masks at the points."""
    as_object, as_rest, p = of_pixel(x, np.ones(x.shape)), of_pixel(x, np.zeros(x.shape)), sigmoid(x)
    queries = range(len(x))
    return MaskCosts(
        mask=np.stack([_costs_of_pixels(as_object[query], as_rest[query], t) for query in queries]),
        dice=np.stack([_dice_costs(p[query], t) for query in queries]),
    )


def entropy_costs(
    masks: Float[np.ndarray, "queries height width"],
    gt_mask: Float[np.ndarray, "targets gt_height gt_width"],
    points: Float[np.ndarray, "points 2"],
) -> MaskCosts:
    """Binary cross-entropy and dice loss of every query with every target, at points that all of them share."""
    return mask_costs(masks, gt_mask, points, binary_cross_entropy)


def _costs_of_pixels(
    as_object: Float[Array, " points"], as_rest: Float[Array, " points"], t: Float[Array, "targets points"]
) -> Float[Array, " targets"]:
    """Of one query with every target."""
    return np.sum(t * as_object + (1.0 - t) * as_rest, axis=-1) / len(as_rest)


def _dice_costs(p: Float[Array, " points"], t: Float[Array, "targets points"]) -> Float[Array, " targets"]:
    """Of one query with every target."""
    return 1.0 - (2.0 * np.sum(t * p, axis=-1) + 1.0) / (np.sum(p) + np.sum(t, axis=-1) + 1.0)
