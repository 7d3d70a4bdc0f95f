"""The box terms of all matched pairs in one launch: `boxes.pair_terms`."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.boxes import IOU_EPS, PairTerms

BLOCK = 128
"""Pairs of one program; a step has some thousand."""


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _edges(box, inside):
    """Left, top, right and bottom edge of boxes in centre form, and the four numbers themselves."""
    x, y = tl.load(box, mask=inside, other=0.0), tl.load(box + 1, mask=inside, other=0.0)
    width, height = tl.load(box + 2, mask=inside, other=0.0), tl.load(box + 3, mask=inside, other=0.0)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2, x, y, width, height


@triton.jit
@no_type_check
def _overlap(low, high, target_low, target_high):
    """Extent of the intersection, negative where there is none, and of the hull, along one axis; NaN stays NaN."""
    inner = tl.where(high < target_high, high, target_high) - tl.where(low > target_low, low, target_low)
    outer = tl.where(high > target_high, high, target_high) - tl.where(low < target_low, low, target_low)
    return inner, outer


@triton.jit
@no_type_check
def _slopes(by_shared, by_around, by_size, low, high, target_low, target_high):
    """Derivatives of 1 - GIoU by centre and size along one axis; see `boxes.pair_terms`."""
    by_low = -by_shared * (low > target_low) - by_around * (low < target_low)
    by_high = by_shared * (high < target_high) + by_around * (high > target_high)
    return by_low + by_high, (by_high - by_low) / 2 + by_size


@triton.jit
@no_type_check
def _sign(difference):
    """-1, 0 or 1; 0 of NaN, as torch has it."""
    return tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, 0.0))


@triton.jit
@no_type_check
def _pair_terms(
    pred, target, distance, apart, iou, distance_slope, apart_slope, pairs, EPS: tl.constexpr, BLOCK: tl.constexpr
):
    """One block of pairs."""
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    left, top, right, bottom, x, y, width, height = _edges(pred + pair * 4, inside)
    left_t, top_t, right_t, bottom_t, x_t, y_t, width_t, height_t = _edges(target + pair * 4, inside)
    meeting_x, around_x = _overlap(left, right, left_t, right_t)
    meeting_y, around_y = _overlap(top, bottom, top_t, bottom_t)
    shared_x, shared_y = tl.where(meeting_x < 0, 0.0, meeting_x), tl.where(meeting_y < 0, 0.0, meeting_y)
    size_x, size_y = right - left, bottom - top
    inter = shared_x * shared_y
    union = size_x * size_y + (right_t - left_t) * (bottom_t - top_t) - inter + EPS
    hull = around_x * around_y + EPS
    ratio = inter / union

    by_inter, by_area, by_hull = 1.0 / hull - (1.0 + ratio) / union, ratio / union - 1.0 / hull, union / (hull * hull)
    shared_slope_x, shared_slope_y = by_inter * shared_y * (meeting_x > 0), by_inter * shared_x * (meeting_y > 0)
    by_x, by_width = _slopes(shared_slope_x, by_hull * around_y, by_area * size_y, left, right, left_t, right_t)
    by_y, by_height = _slopes(shared_slope_y, by_hull * around_x, by_area * size_x, top, bottom, top_t, bottom_t)

    of_x, of_y, of_width, of_height = x - x_t, y - y_t, width - width_t, height - height_t
    tl.store(distance + pair, tl.abs(of_x) + tl.abs(of_y) + tl.abs(of_width) + tl.abs(of_height), mask=inside)
    tl.store(apart + pair, 1.0 - ratio + (hull - union) / hull, mask=inside)
    tl.store(iou + pair, ratio, mask=inside)
    tl.store(distance_slope + pair * 4, _sign(of_x), mask=inside)
    tl.store(distance_slope + pair * 4 + 1, _sign(of_y), mask=inside)
    tl.store(distance_slope + pair * 4 + 2, _sign(of_width), mask=inside)
    tl.store(distance_slope + pair * 4 + 3, _sign(of_height), mask=inside)
    tl.store(apart_slope + pair * 4, by_x, mask=inside)
    tl.store(apart_slope + pair * 4 + 1, by_y, mask=inside)
    tl.store(apart_slope + pair * 4 + 2, by_width, mask=inside)
    tl.store(apart_slope + pair * 4 + 3, by_height, mask=inside)


def pair_terms(pred: Float[Tensor, "layers pairs 4"], target: Float[Tensor, "layers pairs 4"]) -> PairTerms:
    """See `boxes.pair_terms`."""
    numbers = [torch.empty(pred.shape[:2], dtype=pred.dtype, device=pred.device) for _ in range(3)]
    slopes = [torch.empty(pred.shape, dtype=pred.dtype, device=pred.device) for _ in range(2)]
    pairs = numbers[0].numel()
    if pairs:
        with torch.cuda.device(
            pred.get_device()
        ):  # where Triton launches; on the CPU this is -1, which changes nothing
            _pair_terms[(triton.cdiv(pairs, BLOCK),)](
                pred.contiguous(), target.contiguous(), *numbers, *slopes, pairs, EPS=IOU_EPS, BLOCK=BLOCK
            )
    return PairTerms(*numbers, *slopes)
