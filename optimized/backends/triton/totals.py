"""The losses out of their terms in one launch: `torch.totals.totals`."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.torch.totals import LayerLosses
from detr_conformance.optimized.backends.triton.weights import as_arguments, weight_at
from detr_conformance.optimized.options import Weight

BLOCK = 4096
"""Terms that a program adds at once. The logits of a large batch give some ten thousand."""


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _sum(terms, end, BLOCK: tl.constexpr):
    """All terms before the end."""
    place = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], terms.dtype.element_ty)
    while end > 0:  # no `for`: Triton 3.6 cannot interpret a range of loaded length with NumPy 2.4
        total += tl.load(terms + place, mask=place < end, other=0.0)
        terms += BLOCK
        end -= BLOCK
    return tl.sum(total, axis=0)


@triton.jit
@no_type_check
def _store(total, main, auxiliary, is_main):
    """The total into its place."""
    if is_main:
        tl.store(main, total)
    else:
        tl.store(auxiliary, total)


@triton.jit(do_not_specialize=["class_parts", "pair_parts"])  # the second changes from batch to batch
@no_type_check
def _total(
    classes, distance, apart, weights, cls, bbox, giou, cls_aux, bbox_aux, giou_aux,
    bbox_bits: tl.int64, giou_bits: tl.int64, layers, class_parts, pair_parts, BLOCK: tl.constexpr,
):  # fmt: skip
    """One loss of the last layer, or of all others."""
    loss, is_main = tl.program_id(0), tl.program_id(1) == 0
    first = tl.where(is_main, layers - 1, 0)
    rows = tl.where(is_main, 1, layers - 1)
    DTYPE: tl.constexpr = distance.dtype.element_ty
    if loss == 0:
        _store(_sum(classes + first * class_parts, rows * class_parts, BLOCK), cls, cls_aux, is_main)
    elif loss == 1:
        total = _sum(distance + first * pair_parts, rows * pair_parts, BLOCK)
        _store(total * weight_at(weights, bbox_bits, 0, DTYPE), bbox, bbox_aux, is_main)
    else:
        total = _sum(apart + first * pair_parts, rows * pair_parts, BLOCK)
        _store(total * weight_at(weights, giou_bits, 1, DTYPE), giou, giou_aux, is_main)


def totals(
    class_sums: Float[Tensor, "layers class_parts"],
    distance: Float[Tensor, "layers pair_parts"],
    apart: Float[Tensor, "layers pair_parts"],
    weights: tuple[Weight, Weight],
) -> LayerLosses:
    """See `torch.totals.totals`; nothing is read back from the device."""
    device, dtypes = class_sums.device, [class_sums.dtype, distance.dtype, apart.dtype] * 2
    losses = LayerLosses(*(torch.empty((), dtype=dtype, device=device) for dtype in dtypes))
    stacked, bits = as_arguments(weights, distance.dtype, device)
    with torch.cuda.device(class_sums.get_device()):  # where Triton launches; -1 on the CPU, which changes nothing
        _total[(3, 2)](
            class_sums, distance, apart, stacked, *losses, *bits,
            len(class_sums), class_sums.shape[1], distance.shape[1], BLOCK=BLOCK, num_warps=16,
        )  # fmt: skip
    return losses
