"""The derivative with respect to all predicted boxes in one launch: `torch.box_gradients`."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses
from detr_conformance.optimized.backends.triton.pairs import BLOCK, rows_in_memory
from detr_conformance.optimized.backends.triton.weights import as_arguments, of_layer, step_of, weight_at
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.targets import Pairs


@triton.jit(do_not_specialize=["bbox_step", "giou_step", "row_of_layer", "pairs"])  # they change from batch to batch
@no_type_check  # a checker would hide the function, and Triton reads its source
def _place(
    grad_distance, grad_apart, rows, grads, weights, of_bbox, of_giou, of_bbox_aux, of_giou_aux,
    bbox_step, giou_step, bbox_bits: tl.int64, giou_bits: tl.int64, row_of_layer, slots, pairs, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of the pairs of one layer, four numbers each."""
    layer = tl.program_id(1).to(tl.int64)
    layers = tl.num_programs(1)
    entry = tl.program_id(0) * BLOCK * 4 + tl.arange(0, BLOCK * 4)
    inside = entry < pairs * 4
    DTYPE: tl.constexpr = grad_distance.dtype.element_ty
    of_distance = tl.load(grad_distance + layer * pairs * 4 + entry, mask=inside, other=0.0)
    of_apart = tl.load(grad_apart + layer * pairs * 4 + entry, mask=inside, other=0.0)
    of_distance *= weight_at(weights, bbox_bits, 0, DTYPE)
    of_apart *= weight_at(weights, giou_bits, 1, DTYPE)
    total = of_layer(of_distance, of_bbox, of_bbox_aux, bbox_step, layer, layers)
    total += of_layer(of_apart, of_giou, of_giou_aux, giou_step, layer, layers)
    row = tl.load(rows + layer * row_of_layer + entry // 4, mask=inside, other=0)
    # Added, for a caller's pairs may name a query twice.
    tl.atomic_add(grads + (layer * slots + row) * 4 + entry % 4, total, mask=inside, sem="relaxed")


def grad_boxes(
    grad_distance: Float[Tensor, "layers pairs 4"],
    grad_apart: Float[Tensor, "layers pairs 4"],
    weights: tuple[Weight, Weight],
    arriving: OfBoxLosses,
    pairs: Pairs,
    shape: torch.Size,
    dtype: torch.dtype,
) -> Float[Tensor, "layers images queries 4"]:
    """See `torch.box_gradients`; nothing is read back from the device."""
    layers, images, queries, _ = shape
    grads = torch.zeros(shape, dtype=grad_distance.dtype, device=grad_distance.device)
    rows = rows_in_memory(pairs.rows)
    stacked, bits = as_arguments(weights, grads.dtype, grads.device)
    if pairs.count:
        with torch.cuda.device(grads.get_device()):  # where Triton launches; -1 on the CPU, which changes nothing
            _place[(triton.cdiv(pairs.count, BLOCK), layers)](
                grad_distance, grad_apart, rows, grads, stacked, *arriving,
                step_of(arriving.bbox_aux), step_of(arriving.giou_aux), *bits,
                rows.stride(0), images * queries, pairs.count, BLOCK=BLOCK,
            )  # fmt: skip
    return grads.to(dtype)
