"""The masks of a case: those that are predicted, and those of targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.properties.rows import Chosen, ChosenQueries, taken
from detr_conformance.reference.validation import check_array, check_count

Size = tuple[int, int]
"""Height and width in pixels."""
POINTS = ("loss_points", "cost_points")
"""Fields that hold points."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of a case. Those of its denoising queries are in `Denoising`.

    Images of a batch may differ in size. Then they stand in the upper left corner of the batch's, which is as high as
    the highest and as wide as the widest, and the rest of it is background.

    Attributes:
        pred_masks: logits of a mask for each query, shape (layers, images, queries, height, width), of the whole batch.
        gt_masks: for each target 1 on the object and 0 beside it, shape (targets, batch height, batch width).
        sizes: height and width of each image.
        loss_points: for each target the points at which the losses compare it with a prediction, shape (targets,
            points, 2): x and y as shares of width and height of the batch, from 0 to 1; None where there are no points.
        cost_points: for each image those at which its matcher compares masks, shape (images, points, 2), or None.
    """

    pred_masks: Float[np.ndarray, "layers images queries height width"]
    gt_masks: Float[np.ndarray, "targets batch_height batch_width"]
    sizes: tuple[Size, ...]
    loss_points: Float[np.ndarray, "targets loss_points 2"] | None = None
    cost_points: Float[np.ndarray, "images cost_points 2"] | None = None

    @property
    def size(self) -> Size:
        """Height and width of the batch."""
        return self.gt_masks.shape[1], self.gt_masks.shape[2]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by the name that it goes by in a loss call."""
        arrays = {name: getattr(self, name) for name in ("pred_masks", "gt_masks", *POINTS)}
        return {name: array for name, array in arrays.items() if array is not None}

    def of_complements(self, batch_idx: Int64[np.ndarray, " targets"]) -> Masks:
        """Those of targets the other way round: 1 beside each object, as far as its image goes.

        Args:
            batch_idx: the image of each target.
        """
        gt = np.zeros_like(self.gt_masks)
        for target, image in enumerate(batch_idx):
            height, width = self.sizes[image]
            gt[target, :height, :width] = 1.0 - self.gt_masks[target, :height, :width]
        return replace(self, gt_masks=gt)

    def taken(
        self,
        layers: Chosen = None,
        images: Chosen = None,
        queries: ChosenQueries = None,
        targets: Chosen = None,
    ) -> Masks:
        """Only these layers, images, queries and targets, in this order; by default all of them.

        The batch becomes as small as its images allow.
        """
        sizes = self.sizes if images is None else tuple(self.sizes[image] for image in images)
        height, width = (max(each) for each in zip(*sizes, strict=True))
        gt_masks = self.gt_masks if targets is None else self.gt_masks[np.asarray(targets, dtype=np.int64)]
        return replace(
            self,
            pred_masks=taken(self.pred_masks, layers, images, queries),
            gt_masks=gt_masks[:, :height, :width].copy(),
            sizes=sizes,
            loss_points=_rows(self.loss_points, targets),
            cost_points=_rows(self.cost_points, images),
        )

    def of_one_size(self) -> Masks:
        """Every image as large as the batch."""
        return replace(self, sizes=(self.size,) * len(self.sizes))

    def mirrored(self) -> Masks:
        """The batch reflected left to right; every image becomes as large as the batch."""
        pred, gt = (each[..., ::-1].copy() for each in (self.pred_masks, self.gt_masks))
        moved = self.with_points(lambda points: np.stack([1.0 - points[..., 0], points[..., 1]], axis=-1))
        return replace(moved, pred_masks=pred, gt_masks=gt, sizes=self.of_one_size().sizes)

    def transposed(self) -> Masks:
        """Rows become columns."""
        pred, gt = (each.swapaxes(-2, -1).copy() for each in (self.pred_masks, self.gt_masks))
        moved, sizes = self.with_points(lambda points: points[..., ::-1].copy()), [size[::-1] for size in self.sizes]
        return replace(moved, pred_masks=pred, gt_masks=gt, sizes=tuple(sizes))

    def with_points(self, change: Callable[[np.ndarray], np.ndarray]) -> Masks:
        """The same change made to all points, if there are any."""
        given = {name: getattr(self, name) for name in POINTS}
        changed: dict[str, Any] = {name: change(each) for name, each in given.items() if each is not None}
        return replace(self, **changed)


def _rows(points: np.ndarray | None, chosen: Chosen) -> np.ndarray | None:
    """The points of these targets or images, in this order; by default of all of them."""
    return points if points is None or chosen is None else points[np.asarray(chosen, dtype=np.int64)]


def check_masks(masks: Masks, leading: tuple[int, ...], images: int, targets: int) -> None:
    """Masks that fit the rest of a case.

    Args:
        masks: the masks.
        leading: layers, images and queries.
        images: number of images.
        targets: number of targets.

    Raises:
        TypeError, ValueError: they do not; what is wrong is named with its value.
    """
    for name, array in masks.arrays().items():
        check_array(f"masks.{name}", array)
    _check_shape("masks.pred_masks", masks.pred_masks, leading, "layers, images, queries")
    _check_shape("masks.gt_masks", masks.gt_masks, (targets,), "targets")
    _check_sizes(masks, images)
    _check_points(masks, images, targets)
    wrong = masks.gt_masks[(masks.gt_masks != 0) & (masks.gt_masks != 1)]
    if wrong.size:
        raise ValueError(f"masks.gt_masks has {wrong[0]}, expected 0 and 1")


def check_padding(masks: Masks, batch_idx: Sequence[int]) -> None:
    """ValueError where a target has pixels beyond its own image."""
    for target, image in enumerate(batch_idx):
        height, width = masks.sizes[image]
        mask = masks.gt_masks[target]
        if mask[height:].any() or mask[:, width:].any():
            raise ValueError(f"masks.gt_masks[{target}] has pixels beyond its image, which is {height} x {width}")


def _check_shape(name: str, array: np.ndarray, leading: tuple[int, ...], axes: str) -> None:
    if array.ndim != len(leading) + 2 or array.shape[:-2] != leading or not all(array.shape[-2:]):
        wanted = ", ".join(map(str, leading))
        raise ValueError(
            f"{name} has shape {array.shape}, expected ({axes}, height, width) = ({wanted}, ...), at least 1 x 1"
        )


def _check_points(masks: Masks, images: int, targets: int) -> None:
    """Points for all targets and for all images, or for none of either."""
    given = {name: getattr(masks, name) for name in POINTS}
    absent = [name for name, points in given.items() if points is None]
    if len(absent) == 1:
        raise ValueError(f"masks.{absent[0]} is None, expected both {' and '.join(POINTS)}, or neither")
    for (name, points), (owner, count) in zip(given.items(), (("targets", targets), ("images", images)), strict=True):
        if points is None:
            continue
        if points.ndim != 3 or len(points) != count or not points.shape[1] or points.shape[2] != 2:
            raise ValueError(
                f"masks.{name} has shape {points.shape}, expected ({owner}, points, 2) = ({count}, ..., 2), "
                "at least one point"
            )
        outside = points[~((points >= 0.0) & (points <= 1.0))]  # NaN too
        if outside.size:
            raise ValueError(f"masks.{name} has {outside[0]}, expected shares of the batch from 0 to 1")


def _check_sizes(masks: Masks, images: int) -> None:
    if len(masks.sizes) != images:
        raise ValueError(f"masks.sizes has {len(masks.sizes)} entries, expected one for each of the {images} images")
    for image, size in enumerate(masks.sizes):
        if len(size) != 2:
            raise ValueError(f"masks.sizes[{image}] is {size}, expected height and width")
        for each in size:
            check_count(f"masks.sizes[{image}]", each, least=1)
    largest = tuple(max(each) for each in zip(*masks.sizes, strict=True))
    if largest != masks.size:
        raise ValueError(f"masks.gt_masks are {masks.size}, expected the largest of masks.sizes, which is {largest}")
