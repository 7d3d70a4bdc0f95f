"""Boxes: overlap measures and the gradients of the two box losses.

A box is four numbers, centre x, centre y, width, height, each a share of the image's width or height. Sizes
may come out negative from a network; nothing here checks that, the formulas are evaluated as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Boxes = Float[np.ndarray, "*#batch 4"]
Coordinate = Float[np.ndarray, "*#batch"]

IOU_EPS = 1e-7
"""Added to the union and to the enclosing area, so that two boxes without area divide by something."""


@dataclass(frozen=True)
class Corners:
    """Left, top, right and bottom edge of boxes, each of shape (*batch,)."""

    left: Coordinate
    top: Coordinate
    right: Coordinate
    bottom: Coordinate

    @property
    def width(self) -> Coordinate:
        """Right minus left; negative where the box is turned inside out."""
        return self.right - self.left

    @property
    def height(self) -> Coordinate:
        """Bottom minus top; negative where the box is turned inside out."""
        return self.bottom - self.top


def corners_of_centre_form(boxes: Boxes) -> Corners:
    """The edges: centre minus and plus half the size."""
    x, y, width, height = (boxes[..., axis] for axis in range(4))
    return Corners(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def corners_of_corner_form(boxes: Boxes) -> Corners:
    """The edges of boxes that are given as left, top, right, bottom."""
    return Corners(*(boxes[..., axis] for axis in range(4)))


@dataclass(frozen=True)
class Overlap:
    """The areas that every overlap measure is made of, each of shape (*batch,).

    Attributes:
        width: width of the intersection, 0 where the boxes do not meet; `height` likewise.
        hull_width: width of the smallest box around both; `hull_height` likewise.
        inter: area of the intersection.
        union: area covered by at least one of the two, plus eps.
        hull: area of the smallest box around both, plus eps.
    """

    width: Coordinate
    height: Coordinate
    hull_width: Coordinate
    hull_height: Coordinate
    inter: Coordinate
    union: Coordinate
    hull: Coordinate


def overlap(a: Corners, b: Corners, sizes: tuple[Coordinate, ...], eps: float = IOU_EPS) -> Overlap:
    """Intersection, union and hull of boxes a and b, pair by pair.

        inter = (min(right) - max(left))+ (min(bottom) - max(top))+
        union = w_a h_a + w_b h_b - inter + eps
        hull  = (max(right) - min(left)) (max(bottom) - min(top)) + eps

    Args:
        a: edges of the first boxes, broadcast against `b`.
        b: edges of the second boxes.
        sizes: w_a, h_a, w_b, h_b.
        eps: keeps the two areas that are divided by away from 0.
    """
    width = np.maximum(np.minimum(a.right, b.right) - np.maximum(a.left, b.left), 0.0)
    height = np.maximum(np.minimum(a.bottom, b.bottom) - np.maximum(a.top, b.top), 0.0)
    hull_width = np.maximum(a.right, b.right) - np.minimum(a.left, b.left)
    hull_height = np.maximum(a.bottom, b.bottom) - np.minimum(a.top, b.top)
    width_a, height_a, width_b, height_b = sizes
    inter = width * height
    union = width_a * height_a + width_b * height_b - inter + eps
    return Overlap(width, height, hull_width, hull_height, inter, union, hull_width * hull_height + eps)


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
    taller = 0.0 if xywh else eps
    sizes = (a.width, a.height + taller, b.width, b.height + taller)
    areas = overlap(a, b, sizes, eps)
    iou = areas.inter / areas.union
    if CIoU or DIoU:
        measure = iou - _centre_distance(a, b, areas, eps)
        if CIoU:
            measure = measure - _shape_mismatch(iou, sizes, eps)
    elif GIoU:
        measure = iou - (areas.hull - areas.union) / areas.hull
    else:
        measure = iou
    return measure[..., None]


def _centre_distance(a: Corners, b: Corners, areas: Overlap, eps: float) -> Coordinate:
    """Squared distance of the centres over the squared diagonal of the hull."""
    across = (b.left + b.right - a.left - a.right) / 2
    down = (b.top + b.bottom - a.top - a.bottom) / 2
    return (across**2 + down**2) / (areas.hull_width**2 + areas.hull_height**2 + eps)


def _shape_mismatch(iou: Coordinate, sizes: tuple[Coordinate, ...], eps: float) -> Coordinate:
    """The term alpha v of CIoU: how much the aspect ratios differ, weighed by how well the boxes overlap."""
    width_a, height_a, width_b, height_b = sizes
    v = 4 / np.pi**2 * (np.arctan(width_b / height_b) - np.arctan(width_a / height_a)) ** 2
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

    GIoU = inter / union + union / hull - 1, so with primes for the derivative by any one edge or size

        GIoU' = inter' / union + union' / hull - union' inter / union^2 - hull' union / hull^2
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
    areas = overlap(a, b, (a.width, a.height, b.width, b.height), eps)
    by_x, by_width = _along_one_axis(a.left, a.right, b.left, b.right)
    by_y, by_height = _along_one_axis(a.top, a.bottom, b.top, b.bottom)
    derivatives = (
        _giou_slope(areas, by_x.inter * areas.height, by_x.hull * areas.hull_height, 0.0),
        _giou_slope(areas, by_y.inter * areas.width, by_y.hull * areas.hull_width, 0.0),
        _giou_slope(areas, by_width.inter * areas.height, by_width.hull * areas.hull_height, a.height),
        _giou_slope(areas, by_height.inter * areas.width, by_height.hull * areas.hull_width, a.width),
    )
    return np.stack(derivatives, axis=-1)


@dataclass(frozen=True)
class Slopes:
    """How the length of the intersection and of the hull along one axis follow a centre or a size."""

    inter: Coordinate
    hull: Coordinate


def _along_one_axis(
    low_a: Coordinate, high_a: Coordinate, low_b: Coordinate, high_b: Coordinate
) -> tuple[Slopes, Slopes]:
    """Slopes by the centre and by the size of box a; its edges are centre -/+ size / 2."""
    meet = np.heaviside(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0.5)
    low_bounds_inter = meet * np.heaviside(low_a - low_b, 0.5)
    high_bounds_inter = meet * np.heaviside(high_b - high_a, 0.5)
    low_bounds_hull = np.heaviside(low_b - low_a, 0.5)
    high_bounds_hull = np.heaviside(high_a - high_b, 0.5)
    by_centre = Slopes(high_bounds_inter - low_bounds_inter, high_bounds_hull - low_bounds_hull)
    by_size = Slopes((high_bounds_inter + low_bounds_inter) / 2, (high_bounds_hull + low_bounds_hull) / 2)
    return by_centre, by_size


def _giou_slope(areas: Overlap, inter: Coordinate, hull: Coordinate, area: Coordinate | float) -> Coordinate:
    """The derivative of GIoU from those of the intersection, the hull and the predicted area."""
    union = area - inter
    of_iou = inter / areas.union - union * areas.inter / areas.union**2
    of_hull_share = union / areas.hull - hull * areas.union / areas.hull**2
    return of_iou + of_hull_share
