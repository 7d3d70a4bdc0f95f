"""L1 and GIoU of pairs of boxes by their spans along each axis, and their derivatives worked out by hand.

Two spans of sizes v and w whose centres lie d apart share min(v, w, (v + w)/2 - d), and reach over
max(v, w, (v + w)/2 + d).
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Areas(NamedTuple):
    """Of pairs of boxes: what they share, what they cover together, and what is around both."""

    shared: torch.Tensor
    covered: torch.Tensor
    around: torch.Tensor


class Spans(NamedTuple):
    """Along both axes: what is shared and what is around, with derivatives with respect to centre and size."""

    shared: torch.Tensor
    around: torch.Tensor
    shared_by: tuple[torch.Tensor, torch.Tensor]
    around_by: tuple[torch.Tensor, torch.Tensor]


class Eps(NamedTuple):
    """What is added to an area before anything is divided by it, and the least that it may be then."""

    added: float = 0.0
    least: float = 0.0

    def __call__(self, area):
        return (area + self.added).clamp(min=self.least) if self.least else area + self.added

    def slope(self, area):
        return (area > self.least).to(area.dtype) if self.least else torch.ones_like(area)


def spans(boxes, wanted):
    """Of boxes that broadcast against each other."""
    offset, size, other = boxes[..., :2] - wanted[..., :2], boxes[..., 2:], wanted[..., 2:]
    reach, middle, side = offset.abs(), (size + other) / 2, offset.sign()
    smaller, larger = torch.minimum(size, other), torch.maximum(size, other)
    inside, outside = middle - reach, middle + reach
    partly, apart = inside < smaller, outside > larger
    shared = torch.where(partly, inside, smaller).clamp(min=0)
    meet = (shared > 0).to(size.dtype)
    shared_by = -side * partly * meet, torch.where(partly, 0.5, (size < other).to(size.dtype)) * meet
    around_by = side * apart, torch.where(apart, 0.5, (size > other).to(size.dtype))
    return Spans(shared, torch.where(apart, outside, larger), shared_by, around_by)


def areas(boxes, wanted, along):
    shared = along.shared[..., 0] * along.shared[..., 1]
    both = boxes[..., 2] * boxes[..., 3] + wanted[..., 2] * wanted[..., 3]
    return Areas(shared, both - shared, along.around[..., 0] * along.around[..., 1])


def iou(boxes, wanted, eps):
    each = areas(boxes, wanted, spans(boxes, wanted))
    return each.shared / eps(each.covered)


def giou_loss(boxes, wanted, eps):
    """1 - GIoU."""
    each = areas(boxes, wanted, spans(boxes, wanted))
    return missing(each, eps)


def missing(each, eps):
    return 1 - each.shared / eps(each.covered) + (each.around - each.covered) / eps(each.around)


class BoxLosses(torch.autograd.Function):
    """|b - b'| and 1 - GIoU of every pair."""

    @staticmethod
    def forward(ctx, boxes, wanted, eps):
        along = spans(boxes, wanted)
        each = areas(boxes, wanted, along)
        ctx.l1 = (boxes - wanted).sign()
        ctx.giou = giou_slope(boxes, along, each, eps)
        return (boxes - wanted).abs().sum(dim=-1), missing(each, eps)

    @staticmethod
    def backward(ctx, of_l1, of_giou):
        return of_l1[:, None] * ctx.l1 + of_giou[:, None] * ctx.giou, None, None


def giou_slope(boxes, along, each, eps):
    """Derivative of 1 - GIoU with respect to the four numbers of the first box."""
    union, hull = eps(each.covered), eps(each.around)
    shared, around = by_box(along.shared, along.shared_by), by_box(along.around, along.around_by)
    covered = torch.cat([torch.zeros_like(boxes[:, :2]), boxes[:, 2:].flip(-1)], dim=-1) - shared
    by_covered = each.shared / union**2 * eps.slope(each.covered) - 1 / hull
    by_around = 1 / hull - (each.around - each.covered) / hull**2 * eps.slope(each.around)
    return -shared / union[:, None] + by_covered[:, None] * covered + by_around[:, None] * around


def by_box(size, slopes):
    """Derivative of the area of a box of this size, whose sides have these slopes with respect to centre and size."""
    return torch.cat([slope * size.flip(-1) for slope in slopes], dim=-1)
