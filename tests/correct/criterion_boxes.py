"""Boxes as DETR's criterion compares them: every box of one list with every box of another, by corners."""

from __future__ import annotations

import torch


def to_corners(boxes):
    """Left, top, right, bottom of boxes in centre form."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)


def to_centre(corners):
    """Centre form of left, top, right, bottom."""
    left, top, right, bottom = corners.unbind(-1)
    return torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=-1)


def pairwise_overlap(a, b, guard):
    """IoU and GIoU of every box of `a` with every one of `b`, all given by their corners; shapes (a, b)."""
    area_a, area_b = ((each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (a, b))
    inside = torch.min(a[:, None, 2:], b[:, 2:]) - torch.max(a[:, None, :2], b[:, :2])
    around = torch.max(a[:, None, 2:], b[:, 2:]) - torch.min(a[:, None, :2], b[:, :2])
    inter = inside.clamp(min=0)[..., 0] * inside.clamp(min=0)[..., 1]
    union = area_a[:, None] + area_b - inter
    hull = around[..., 0] * around[..., 1]
    iou = inter / guard(union)
    return iou, iou - (hull - union) / guard(hull)


def as_it_is(area):
    return area


def at_least_1e_7(area):
    return area.clamp(min=1e-7)


def and_1e_10(area):
    return area + 1e-10


def and_1e_9(area):
    return area + 1e-9
