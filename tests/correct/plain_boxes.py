"""IoU and GIoU of boxes in centre form, by their corners; the last axis holds x, y, width, height."""

from __future__ import annotations

import torch

EPS = 1e-7


def corners(boxes):
    """Lower and upper corner, each with a last axis of two."""
    centre, size = boxes.split(2, dim=-1)
    return centre - size / 2, centre + size / 2


def iou_and_giou(a, b, eps=EPS):
    """Both for broadcast pairs of boxes, without the last axis."""
    (a_low, a_high), (b_low, b_high) = corners(a), corners(b)
    overlap = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0)
    inter = overlap.prod(dim=-1)
    union = a[..., 2:].prod(dim=-1) + b[..., 2:].prod(dim=-1) - inter + eps
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(dim=-1) + eps
    iou = inter / union
    return iou, iou - (hull - union) / hull
