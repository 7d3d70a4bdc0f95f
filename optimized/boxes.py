"""Overlap of boxes: the public `bbox_iou`, and the two box losses of matched pairs with their closed-form gradients."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.part_checks import check_two_boxes
from detr_conformance.optimized.validation import check_number

IOU_EPS = 1e-7
"""Added to the union and to the enclosing area, so that two boxes without area divide by something."""


def bbox_iou(
    box1: Float[Tensor, "*#batch 4"],
    box2: Float[Tensor, "*#batch 4"],
    xywh: bool = True,
    GIoU: bool = False,
    DIoU: bool = False,
    CIoU: bool = False,
    eps: float = IOU_EPS,
) -> Float[Tensor, "*result 1"]:
    """Intersection over union of boxes, or one of its three extensions; differentiable by autograd.

        IoU  = inter / union
        GIoU = IoU - (hull - union) / hull
        DIoU = IoU - d^2 / diagonal^2
        CIoU = DIoU - alpha v,   v = 4 / pi^2 (atan(w_b / h_b) - atan(w_a / h_a))^2,
               alpha = v / (1 - IoU + v + eps), a constant to the gradient

    `union` and `hull` are the areas covered and enclosed by the two, each plus eps; d is the distance of the centres
    and the diagonal that of the enclosing box, its square plus eps. CIoU is looked at first, then DIoU, then GIoU.

    Args:
        box1: boxes of any leading axes, broadcast against `box2`; centre x, centre y, width, height.
        box2: likewise.
        xywh: False: the boxes are left, top, right, bottom.
        GIoU: generalised IoU, range (-1, 1].
        DIoU: distance IoU, range (-1, 1].
        CIoU: complete IoU, at most 1.
        eps: keeps divisors away from 0.

    Returns:
        The measure, with a last axis of size 1 (quirk: the axis of the coordinates stays).

    Raises:
        TypeError, ValueError: an argument does not fit; it is named with its value.

    Reference: Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630, algorithm 1; Zheng et al.,
    Distance-IoU Loss, arXiv 1911.08287.
    """
    check_two_boxes(box1, box2)
    eps = check_number("eps", eps)
    (low1, high1), (low2, high2) = _edges(box1, xywh), _edges(box2, xywh)
    size1, size2 = high1 - low1, high2 - low2
    if not xywh:
        # quirk: in corner form the heights, and only the heights, are made eps larger before use.
        taller = size1.new_tensor([0.0, eps])
        size1, size2 = size1 + taller, size2 + taller
    inter = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1, keepdim=True)
    union = size1.prod(-1, keepdim=True) + size2.prod(-1, keepdim=True) - inter + eps
    around = torch.maximum(high1, high2) - torch.minimum(low1, low2)
    iou = inter / union
    if CIoU or DIoU:
        apart = (low2 + high2 - low1 - high1) / 2
        distance = apart.square().sum(-1, keepdim=True) / (around.square().sum(-1, keepdim=True) + eps)
        return iou - distance - _shape_mismatch(iou, size1, size2, eps) if CIoU else iou - distance
    if GIoU:
        hull = around.prod(-1, keepdim=True) + eps
        return iou - (hull - union) / hull
    return iou


def _edges(boxes: Float[Tensor, "*batch 4"], xywh: bool) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch 2"]]:
    """Left and top edge, right and bottom edge."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return (first - second / 2, first + second / 2) if xywh else (first, second)


def _shape_mismatch(
    iou: Float[Tensor, "*result 1"], size1: Float[Tensor, "*batch 2"], size2: Float[Tensor, "*batch2 2"], eps: float
) -> Float[Tensor, "*result 1"]:
    """The term alpha v of CIoU."""
    angle1, angle2 = (torch.atan(size[..., :1] / size[..., 1:]) for size in (size1, size2))
    v = 4 / math.pi**2 * (angle2 - angle1).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return alpha * v


class PairTerms(NamedTuple):
    """What a matched pair of boxes contributes, before any weight.

    Attributes:
        distance: sum of |differences| of the four numbers.
        apart: 1 - GIoU.
        iou: IoU.
        distance_slope: derivative of `distance` with respect to the predicted box.
        apart_slope: derivative of `apart` with respect to the predicted box.
    """

    distance: Float[Tensor, "layers pairs"]
    apart: Float[Tensor, "layers pairs"]
    iou: Float[Tensor, "layers pairs"]
    distance_slope: Float[Tensor, "layers pairs 4"]
    apart_slope: Float[Tensor, "layers pairs 4"]


def pair_terms(pred: Float[Tensor, "layers pairs 4"], target: Float[Tensor, "layers pairs 4"]) -> PairTerms:
    """L1 distance, GIoU and IoU of matched boxes, with the derivatives with respect to the prediction in closed form.

    With U, H and I the areas of union, hull and intersection and A = w h the predicted box's own,

        1 - GIoU = 2 - I / U - U / H,   dU = dA - dI
        d(1 - GIoU) = dI (1 / H - 1 / U - I / U^2) + dA (I / U^2 - 1 / H) + dH U / H^2

    An edge of the prediction moves I where it bounds the intersection, and H where it bounds the hull. What the
    derivative is where edges coincide is left open.

    Args:
        pred: predicted boxes, centre form, in the dtype of the arithmetic.
        target: their targets.

    Reference: Rezatofighi et al., arXiv 1902.09630, algorithm 2; the derivative follows by the quotient rule.
    """
    # Coordinates first: each is then a plane in memory, and what is done to it one loop.
    (centre, size), (target_centre, target_size) = (
        each.movedim(-1, 0).contiguous().split_with_sizes([2, 2]) for each in (pred, target)
    )
    low, high = centre - size / 2, centre + size / 2
    target_low, target_high = target_centre - target_size / 2, target_centre + target_size / 2
    meeting = torch.minimum(high, target_high) - torch.maximum(low, target_low)
    shared, around = meeting.clamp(min=0), torch.maximum(high, target_high) - torch.minimum(low, target_low)
    inter = shared[0] * shared[1]
    union = _area(high - low) + _area(target_high - target_low) - inter + IOU_EPS
    hull = _area(around) + IOU_EPS
    iou = inter / union

    by_inter, by_area = 1 / hull - (1 + iou) / union, iou / union - 1 / hull
    along_shared = by_inter * shared.flip(0) * (meeting > 0)  # a side of an area times the other side is its slope
    along_around = union / hull.square() * around.flip(0)
    by_low = -along_shared * (low > target_low) - along_around * (low < target_low)
    by_high = along_shared * (high < target_high) + along_around * (high > target_high)
    by_size = (by_high - by_low) / 2 + by_area * (high - low).flip(0)
    difference = pred - target
    return PairTerms(
        distance=difference.abs().sum(-1),
        apart=1 - iou + (hull - union) / hull,
        iou=iou,
        distance_slope=difference.sign(),
        apart_slope=torch.cat([by_low + by_high, by_size]).movedim(0, -1),
    )


def _area(sides: Float[Tensor, "2 layers pairs"]) -> Float[Tensor, "layers pairs"]:
    return sides[0] * sides[1]
