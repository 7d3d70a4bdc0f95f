"""How RF-DETR reads masks at points: targets by nearest pixels, predictions bilinearly with their border."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.masks import between, positions_of
from detr_conformance.reference.rounding import Tracked, plain
from detr_conformance.reference.tape import Array

NEAR = 1e-4
"""So far from an edge between two pixels, in pixels, roundings do not decide which of them a point lies in."""


def sampled_each_with_border(
    masks: Float[Array, "masks height width"], points: Float[np.ndarray, "masks points 2"]
) -> Float[Array, "masks points"]:
    """As `sampled_each`, but around a mask its outermost pixels go on."""
    columns, rows = (
        np.minimum(np.maximum(positions, 0.0), pixels - 1.0)
        for positions, pixels in zip(positions_of(points, masks), masks.shape[:0:-1], strict=True)
    )
    return between(masks, columns, rows)


def nearest_each(
    masks: Float[np.ndarray, "masks height width"], points: Float[np.ndarray, "masks points 2"]
) -> Float[np.ndarray, "masks points"]:
    """The pixel of each mask that each of its points lies in.

    Where a point lies on the edge between two pixels, or so near that roundings decide, either of them is right: the
    value is then the mean of both, with an error bound that reaches them.
    """
    each = np.arange(len(masks))[:, None]
    height, width = masks.shape[1:]
    found: list[np.ndarray] = []
    for down, right in product((-NEAR, NEAR), repeat=2):
        rows = np.clip(np.floor(points[..., 1] * height + down), 0, height - 1).astype(np.int64)
        columns = np.clip(np.floor(points[..., 0] * width + right), 0, width - 1).astype(np.int64)
        found.append(plain(masks)[each, rows, columns])
    if not isinstance(masks, Tracked):
        return found[-1]
    least, most = np.min(found, axis=0), np.max(found, axis=0)
    return Tracked((least + most) / 2.0, (most - least) / 2.0 / masks.arithmetic.eps, masks.arithmetic)


def nearest_with_zeros(
    masks: Float[np.ndarray, "masks height width"], points: Float[np.ndarray, "masks points 2"]
) -> Float[np.ndarray, "masks points"]:
    """The pixel that a point lies in, which on the border may be one of the zeros around."""
    size = np.array(masks.shape[:0:-1])
    row, column = (np.zeros(shape) for shape in ((len(masks), 1, size[0] + 2), (len(masks), size[1], 1)))
    padded = np.concatenate([row, np.concatenate([column, masks, column], axis=2), row], axis=1)
    return nearest_each(padded, (points * size + 1.0) / (size + 2.0))
