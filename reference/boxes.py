"""Boxes: overlap measures and the gradients of the two box losses.

A box is four numbers, centre x, centre y, width, height, each a share of the image's width or height. Sizes
may come out negative from a network; nothing here checks that, the formulas are evaluated as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Boxes = Float[np.ndarray, "*#batch 4"]
Points = Float[np.ndarray, "*#batch 2"]
Coordinate = Float[np.ndarray, "*#batch"]

IOU_EPS = 1e-7
"""Added to the union and to the enclosing area, so that two boxes without area divide by something."""


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
        shared: width and height of the intersection, 0 where the boxes do not meet, shape (*batch, 2).
        around: width and height of the smallest box around both, shape (*batch, 2).
        inter: area of the intersection, shape (*batch,).
        union: area covered by at least one of the two, plus eps, shape (*batch,).
        hull: area of the smallest box around both, plus eps, shape (*batch,).
    """

    shared: Points
    around: Points
    inter: Coordinate
    union: Coordinate
    hull: Coordinate


def overlap(a: Corners, b: Corners, size_a: Points, size_b: Points, eps: float = IOU_EPS) -> Overlap:
    """Intersection, union and hull of boxes a and b, pair by pair.

        inter = (min(right) - max(left))+ (min(bottom) - max(top))+
        union = w_a h_a + w_b h_b - inter + eps
        hull  = (max(right) - min(left)) (max(bottom) - min(top)) + eps

    Args:
        a: corners of the first boxes, broadcast against `b`.
        b: corners of the second boxes.
        size_a: width and height of the first boxes.
        size_b: width and height of the second boxes.
        eps: keeps the two areas that are divided by away from 0.
    """
    shared = np.maximum(np.minimum(a.high, b.high) - np.maximum(a.low, b.low), 0.0)
    around = np.maximum(a.high, b.high) - np.minimum(a.low, b.low)
    inter = area(shared)
    return Overlap(shared, around, inter, area(size_a) + area(size_b) - inter + eps, area(around) + eps)


@np.errstate(divide="ignore", invalid="ignore")  # degenerate boxes: what comes out says it, no warning needed
def bbox_iou(
    box1: Boxes,
    box2: Boxes,
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = IOU_EPS,
) -> Float[np.ndarray, "*result 1"]:
    """Intersection over union of boxes, or one of its three extensions.

        IoU  = inter / union
        GIoU = IoU - (hull - union) / hull
        DIoU = IoU - d^2 / diagonal^2
        CIoU = DIoU - alpha v,   alpha = v / (1 - IoU + v + eps),
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
        eps: see `overlap`.

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
    areas = overlap(a, b, size_a, size_b, eps)
    iou = areas.inter / areas.union
    if CIoU or DIoU:
        measure = iou - _centre_distance(a, b, areas, eps)
        if CIoU:
            measure = measure - _shape_mismatch(iou, size_a, size_b, eps)
    elif GIoU:
        measure = iou - (areas.hull - areas.union) / areas.hull
    else:
        measure = iou
    return measure[..., None]


def _centre_distance(a: Corners, b: Corners, areas: Overlap, eps: float) -> Coordinate:
    """Squared distance of the centres over the squared diagonal of the hull."""
    apart = (b.low + b.high - a.low - a.high) / 2
    return np.sum(apart**2, axis=-1) / (np.sum(areas.around**2, axis=-1) + eps)


def _shape_mismatch(iou: Coordinate, size_a: Points, size_b: Points, eps: float) -> Coordinate:
    """The term alpha v of CIoU: how much the aspect ratios differ, weighed by how well the boxes overlap."""
    angle_a, angle_b = (np.arctan(size[..., 0] / size[..., 1]) for size in (size_a, size_b))
    v = 4 / np.pi**2 * (angle_b - angle_a) ** 2
    return v * (v / (1 - iou + v + eps))


def l1_distance(pred: Boxes, target: Boxes) -> Float[np.ndarray, "*result 4"]:
    """|pred - target|, number by number, of boxes that broadcast against each other."""
    return np.abs(pred - target)


def l1_gradient(pred: Boxes, target: Boxes) -> Boxes:
    """Derivative of the summed `l1_distance` by the predicted box: sign(pred - target)."""
    return np.sign(pred - target)


def giou_gradient(
    pred: Float[np.ndarray, "pairs 4"], target: Float[np.ndarray, "pairs 4"], eps: float = IOU_EPS
) -> Float[np.ndarray, "pairs 4"]:
    """Derivative of each pair's GIoU by the predicted box.

    With primes for the derivative by any one edge or size,

        GIoU' = inter' / union - union' inter / union^2 - ((hull' - union') / hull - hull' (hull - union) / hull^2)
        union' = area' - inter'

    where an edge moves the intersection or the hull only if it is the one that bounds it.

    Args:
        pred: predicted boxes in centre form.
        target: target boxes in centre form, one for each prediction.
        eps: see `overlap`.

    Returns:
        One derivative for centre x, centre y, width and height. Where an edge of one box lies on an edge of the
        other the derivative jumps; its bound is infinite there (see `rounding`).

    Reference: Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630, algorithm 2; the
    derivative follows by the quotient rule.
    """
    a, b = corners_of_centre_form(pred), corners_of_centre_form(target)
    areas = overlap(a, b, a.size, b.size, eps)
    of_low, of_high = _slopes_of_sides(a, b)
    by_low = _giou_slope(areas, of_low, -_other_side(a.size))
    by_high = _giou_slope(areas, of_high, _other_side(a.size))
    # The edges are centre -/+ size / 2. The two may cancel, but no port need cancel them before it has rounded each.
    return np.concatenate([by_low + by_high, (by_high - by_low) / 2], axis=-1)


@dataclass(frozen=True)
class Slopes:
    """How the sides of the intersection and of the hull follow an edge of box a, along x and y, each (*batch, 2)."""

    shared: Points
    around: Points


def _slopes_of_sides(a: Corners, b: Corners) -> tuple[Slopes, Slopes]:
    """Slopes by the low and by the high edges of box a."""
    meet = np.heaviside(np.minimum(a.high, b.high) - np.maximum(a.low, b.low), 0.5)
    of_low = Slopes(-meet * np.heaviside(a.low - b.low, 0.5), -np.heaviside(b.low - a.low, 0.5))
    of_high = Slopes(meet * np.heaviside(b.high - a.high, 0.5), np.heaviside(a.high - b.high, 0.5))
    return of_low, of_high


def _giou_slope(areas: Overlap, sides: Slopes, own_area: Points) -> Points:
    """The derivative of GIoU along x and y, from those of the sides and of the predicted box's own area."""
    inter, union, hull = areas.inter[..., None], areas.union[..., None], areas.hull[..., None]
    inter_slope = sides.shared * _other_side(areas.shared)
    hull_slope = sides.around * _other_side(areas.around)
    union_slope = own_area - inter_slope
    of_iou = inter_slope / union - union_slope * inter / union**2
    of_empty_share = (hull_slope - union_slope) / hull - hull_slope * (hull - union) / hull**2
    return of_iou - of_empty_share


def _other_side(size: Points) -> Points:
    """Height for x and width for y: what a side is multiplied by in an area."""
    return size[..., ::-1]
