"""Overlap of boxes: the public `bbox_iou`."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.options import IOU_EPS
from detr_conformance.optimized.part_checks import check_two_boxes
from detr_conformance.optimized.validation import check_number


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
