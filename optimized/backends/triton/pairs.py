"""What all matched pairs contribute in one launch: `torch.pairs.matched_terms`."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.backends.torch.pairs import MatchedTerms
from detr_conformance.optimized.options import IOU_EPS
from detr_conformance.optimized.targets import Pairs, Targets

BLOCK = 128
"""Pairs of one program; a layer has some hundred."""


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _edges(box, of_number, inside, DTYPE: tl.constexpr):
    """Left, top, right and bottom edge of boxes in centre form, and the four numbers themselves."""
    x = tl.load(box, mask=inside, other=0.0).to(DTYPE)
    y = tl.load(box + of_number, mask=inside, other=0.0).to(DTYPE)
    width = tl.load(box + 2 * of_number, mask=inside, other=0.0).to(DTYPE)
    height = tl.load(box + 3 * of_number, mask=inside, other=0.0).to(DTYPE)
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
def _grad(by_shared, by_around, by_size, low, high, target_low, target_high):
    """Derivatives of 1 - GIoU with respect to centre and size along one axis; see `torch.pairs.pair_terms`."""
    by_low = -by_shared * (low > target_low) - by_around * (low < target_low)
    by_high = by_shared * (high < target_high) + by_around * (high > target_high)
    return by_low + by_high, (by_high - by_low) / 2 + by_size


@triton.jit
@no_type_check
def _sign(difference):
    """-1, 0 or 1; 0 of NaN, as torch has it."""
    return tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, 0.0))


@triton.jit(do_not_specialize=["row_of_layer", "target_of_layer", "pairs"])  # they change from batch to batch
@no_type_check
def _match_up(
    boxes, gt_boxes, gt_classes, rows, targets, distance, apart, grad_distance, grad_apart, labels, scores,
    of_layer, of_image, of_query, of_number, row_of_layer, target_of_layer, queries, slots, pairs,
    EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of the pairs of one layer; what they contribute is summed, and goes where their queries are."""
    block, layer = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pair = block * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    row = tl.load(rows + layer * row_of_layer + pair, mask=inside, other=0)
    target = tl.load(targets + layer * target_of_layer + pair, mask=inside, other=0)
    image = row // queries
    DTYPE: tl.constexpr = gt_boxes.dtype.element_ty
    pred = boxes + layer * of_layer + image * of_image + (row - image * queries) * of_query
    left, top, right, bottom, x, y, width, height = _edges(pred, of_number, inside, DTYPE)
    left_t, top_t, right_t, bottom_t, x_t, y_t, width_t, height_t = _edges(gt_boxes + target * 4, 1, inside, DTYPE)
    meeting_x, around_x = _overlap(left, right, left_t, right_t)
    meeting_y, around_y = _overlap(top, bottom, top_t, bottom_t)
    shared_x, shared_y = tl.where(meeting_x < 0, 0.0, meeting_x), tl.where(meeting_y < 0, 0.0, meeting_y)
    size_x, size_y = right - left, bottom - top
    inter = shared_x * shared_y
    union = size_x * size_y + (right_t - left_t) * (bottom_t - top_t) - inter + EPS
    hull = around_x * around_y + EPS
    ratio = inter / union

    by_inter, by_area, by_hull = 1.0 / hull - (1.0 + ratio) / union, ratio / union - 1.0 / hull, union / (hull * hull)
    grad_shared_x, grad_shared_y = by_inter * shared_y * (meeting_x > 0), by_inter * shared_x * (meeting_y > 0)
    by_x, by_width = _grad(grad_shared_x, by_hull * around_y, by_area * size_y, left, right, left_t, right_t)
    by_y, by_height = _grad(grad_shared_y, by_hull * around_x, by_area * size_x, top, bottom, top_t, bottom_t)

    of_x, of_y, of_width, of_height = x - x_t, y - y_t, width - width_t, height - height_t
    difference = tl.abs(of_x) + tl.abs(of_y) + tl.abs(of_width) + tl.abs(of_height)
    part = layer * tl.num_programs(0) + block
    tl.store(distance + part, tl.sum(tl.where(inside, difference, 0.0), axis=0))
    tl.store(apart + part, tl.sum(tl.where(inside, 1.0 - ratio + (hull - union) / hull, 0.0), axis=0))
    tl.store(labels + layer * slots + row, tl.load(gt_classes + target, mask=inside, other=0), mask=inside)
    tl.store(scores + layer * slots + row, ratio, mask=inside)
    number = (layer * pairs + pair) * 4
    tl.store(grad_distance + number, _sign(of_x), mask=inside)
    tl.store(grad_distance + number + 1, _sign(of_y), mask=inside)
    tl.store(grad_distance + number + 2, _sign(of_width), mask=inside)
    tl.store(grad_distance + number + 3, _sign(of_height), mask=inside)
    tl.store(grad_apart + number, by_x, mask=inside)
    tl.store(grad_apart + number + 1, by_y, mask=inside)
    tl.store(grad_apart + number + 2, by_width, mask=inside)
    tl.store(grad_apart + number + 3, by_height, mask=inside)


def matched_terms(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    targets: Targets,
    pairs: Pairs,
    classes: int,
    eps: float = IOU_EPS,
) -> MatchedTerms:
    """See `torch.pairs.matched_terms`."""
    layers, images, queries, _ = pred_bboxes.shape
    boxes, device = targets.boxes.contiguous(), pred_bboxes.device
    rows, own = rows_in_memory(pairs.rows), rows_in_memory(pairs.targets)
    blocks = triton.cdiv(pairs.count, BLOCK)
    distance, apart = (torch.empty((layers, blocks), dtype=boxes.dtype, device=device) for _ in range(2))
    grad_distance, grad_apart = (
        torch.empty((layers, pairs.count, 4), dtype=boxes.dtype, device=device) for _ in range(2)
    )
    labels = torch.full((layers, images, queries), classes, dtype=torch.int32, device=device)
    scores = torch.empty((layers, images, queries), dtype=boxes.dtype, device=device)
    if pairs.count:
        with torch.cuda.device(pred_bboxes.get_device()):  # where Triton launches; -1 on the CPU, which changes nothing
            _match_up[(blocks, layers)](
                pred_bboxes, boxes, targets.classes.contiguous(), rows, own,
                distance, apart, grad_distance, grad_apart, labels, scores,
                *pred_bboxes.stride(), rows.stride(0), own.stride(0), queries, images * queries, pairs.count,
                EPS=eps, BLOCK=BLOCK,
            )  # fmt: skip
    return MatchedTerms(distance, apart, grad_distance, grad_apart, labels, scores)


def rows_in_memory(indices: Int64[Tensor, "layers pairs"]) -> Int64[Tensor, "layers pairs"]:
    """The same, each row without gaps; the rows may be one and the same."""
    return indices if indices.stride(1) == 1 else indices.contiguous()
