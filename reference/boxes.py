"""Boxes: overlap measures, and what the two box losses are made of.

A box is four numbers, centre x, centre y, width, height, each a share of the image's width or height. Sizes
may come out negative from a network; nothing here checks that, the formulas are evaluated as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.tape import Array, stop_gradient

Boxes = Float[Array, "*#batch 4"]
Points = Float[Array, "*#batch 2"]
Coordinate = Float[Array, "*#batch"]

IOU_EPS = 1e-7
"""Added to the union and to the enclosing area, so that two boxes without area divide by something."""


@dataclass(frozen=True)
class Guard:
    """What keeps an area that is divided by away from 0.

    Attributes:
        eps: a small area, >= 0.
        as_floor: the area is at least eps wherever something is divided by it; otherwise eps is added to it everywhere.
    """

    eps: float = IOU_EPS
    as_floor: bool = False

    def __call__(self, area: Any) -> Any:
        """The area, guarded: a number, an array or a variable."""
        return np.maximum(area, self.eps) if self.as_floor else area + self.eps


@dataclass(frozen=True)
class Corners:
    """Two opposite corners of boxes.

    Attributes:
        low: left and top edge, shape (*batch, 2).
        high: right and bottom edge, shape (*batch, 2).
    """

    low: Points
    high: Points

    @property
    def size(self) -> Points:
        """Width and height; negative where the box is turned inside out."""
        return self.high - self.low


def corners_of_centre_form(boxes: Boxes) -> Corners:
    """The corners: centre minus and plus half the size."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return Corners(centre - half, centre + half)


def corners_of_corner_form(boxes: Boxes) -> Corners:
    """The corners of boxes that are given as left, top, right, bottom."""
    return Corners(boxes[..., :2], boxes[..., 2:])


def area(size: Points) -> Coordinate:
    """Width times height."""
    return size[..., 0] * size[..., 1]


@dataclass(frozen=True)
class Overlap:
    """What every overlap measure is made of.

    Attributes:
        around: width and height of the smallest box around both, shape (*batch, 2).
        inter: area of the intersection, 0 where the boxes do not meet, shape (*batch,).
        union: area covered by at least one of the two, guarded, shape (*batch,).
        hull: area of the smallest box around both, guarded, shape (*batch,).
        gap: what of the hull neither box covers, where the guard may raise hull and union by different amounts; None
            where it does not, and their difference says it.
    """

    around: Points
    inter: Coordinate
    union: Coordinate
    hull: Coordinate
    gap: Coordinate | None = None

    @property
    def iou(self) -> Coordinate:
        """Intersection over union, range [0, 1]."""
        return self.inter / self.union

    @property
    def giou(self) -> Coordinate:
        """IoU less the share of the hull that neither box covers, range (-1, 1]."""
        return self.iou - (self.hull - self.union if self.gap is None else self.gap) / self.hull


def overlap(a: Corners, b: Corners, size_a: Points, size_b: Points, guard: Guard) -> Overlap:
    """Intersection, union and hull of boxes a and b, pair by pair.

        inter = (min(right) - max(left))+ (min(bottom) - max(top))+
        union = w_a h_a + w_b h_b - inter
        hull  = (max(right) - min(left)) (max(bottom) - min(top))

    Args:
        a: corners of the first boxes, broadcast against `b`.
        b: corners of the second boxes.
        size_a: width and height of the first boxes.
        size_b: width and height of the second boxes.
        guard: what union and hull go through.
    """
    shared = np.maximum(np.minimum(a.high, b.high) - np.maximum(a.low, b.low), 0.0)
    around = np.maximum(a.high, b.high) - np.minimum(a.low, b.low)
    inter = area(shared)
    union, hull = area(size_a) + area(size_b) - inter, area(around)
    # A floor is for what is divided by.
    return Overlap(around, inter, guard(union), guard(hull), gap=hull - union if guard.as_floor else None)


@np.errstate(divide="ignore", invalid="ignore")  # degenerate boxes: what comes out says it, no warning needed
def overlap_of(pred: Boxes, target: Boxes, guard: Guard) -> Overlap:
    """The overlap of boxes in centre form."""
    a, b = corners_of_centre_form(pred), corners_of_centre_form(target)
    return overlap(a, b, a.size, b.size, guard)


@np.errstate(divide="ignore", invalid="ignore")
def iou(pred: Boxes, target: Boxes, guard: Guard) -> Coordinate:
    """IoU of boxes in centre form."""
    return overlap_of(pred, target, guard).iou


@np.errstate(divide="ignore", invalid="ignore")
def giou(pred: Boxes, target: Boxes, guard: Guard) -> Coordinate:
    """GIoU of boxes in centre form.

    Reference: Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630, algorithm 1.
    """
    return overlap_of(pred, target, guard).giou


def l1_distance(pred: Boxes, target: Boxes) -> Coordinate:
    """|x - x'| + |y - y'| + |w - w'| + |h - h'|, of boxes that broadcast against each other."""
    return np.sum(np.abs(pred - target), axis=-1)


@np.errstate(divide="ignore", invalid="ignore")
def bbox_iou(
    box1: Boxes,
    box2: Boxes,
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = IOU_EPS,
) -> Float[Array, "*result 1"]:
    """Intersection over union of boxes, or one of its three extensions.

        IoU  = inter / union
        GIoU = IoU - (hull - union) / hull
        DIoU = IoU - d^2 / diagonal^2
        CIoU = DIoU - alpha v,   alpha = v / (1 - IoU + v + eps), a constant,
               v = 4 / pi^2 (atan(w_b / h_b) - atan(w_a / h_a))^2

    with d the distance of the two centres and the diagonal that of the hull (its square plus eps). The first of
    CIoU, DIoU, GIoU that is set decides.

    Args:
        box1: boxes of any leading axes, broadcast against `box2`.
        box2: boxes of any leading axes.
        xywh: boxes are centre x, centre y, width, height; otherwise left, top, right, bottom.
        GIoU: generalised IoU, range (-1, 1].
        DIoU: distance IoU, range (-1, 1].
        CIoU: complete IoU, at most 1.
        eps: added to the union, to the hull and to the other denominators.

    Returns:
        The measure, with a last axis of size 1  # quirk: the axis of the coordinates stays.

    Reference: IoU and GIoU: Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630,
    algorithm 1; DIoU and CIoU: Zheng et al., Distance-IoU Loss, arXiv 1911.08287.
    """
    corners = corners_of_centre_form if xywh else corners_of_corner_form
    a, b = corners(box1), corners(box2)
    # quirk: in corner form the heights, and only the heights, are made eps larger before use.
    taller = np.array([0.0, 0.0 if xywh else eps])
    size_a, size_b = a.size + taller, b.size + taller
    areas = overlap(a, b, size_a, size_b, Guard(eps))
    if CIoU or DIoU:
        measure = areas.iou - _centre_distance(a, b, areas, eps)
        if CIoU:
            measure = measure - _shape_mismatch(areas.iou, size_a, size_b, eps)
    else:
        measure = areas.giou if GIoU else areas.iou
    return measure[..., None]


def _centre_distance(a: Corners, b: Corners, areas: Overlap, eps: float) -> Coordinate:
    """Squared distance of the centres over the squared diagonal of the hull."""
    distance = (b.low + b.high - a.low - a.high) / 2
    return np.sum(distance**2, axis=-1) / (np.sum(areas.around**2, axis=-1) + eps)


def _shape_mismatch(iou: Coordinate, size_a: Points, size_b: Points, eps: float) -> Coordinate:
    """The term alpha v of CIoU: how much the aspect ratios differ, weighed by how well the boxes overlap."""
    angle_a, angle_b = (np.arctan(size[..., 0] / size[..., 1]) for size in (size_a, size_b))
    v = 4 / np.pi**2 * (angle_b - angle_a) ** 2
    return v * stop_gradient(v / (1 - iou + v + eps))
