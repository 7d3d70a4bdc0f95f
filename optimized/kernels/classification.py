"""Classification in one launch: `class_terms.class_terms` with each logit read once and its derivative written once."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.class_terms import ClassSums
from detr_conformance.optimized.kernels.arithmetic import logistic, power
from detr_conformance.optimized.options import ClassOptions, Weight
from detr_conformance.optimized.precision import arithmetic_dtype

BLOCK = 1024
"""Entries of one program: enough loads under way to keep the memory busy, few enough to leave registers."""

FOCAL = tl.constexpr("focal")
VARIFOCAL = tl.constexpr("varifocal")


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _terms(
    x, q, is_target, background_weight, foreground_weight, KIND: tl.constexpr, GAMMA: tl.constexpr, DOUBLE: tl.constexpr
):
    """Weighted terms and their derivatives; see `ClassOptions`."""
    # A positive term of the focal loss is a background term of the mirrored logit.
    mirrored = is_target & (KIND == FOCAL)
    z = tl.where(mirrored, -x, x)
    p, rest, minus_log_rest, minus_log_p = logistic(z, DOUBLE)
    weight = tl.where(mirrored, foreground_weight, background_weight) * power(p, minus_log_p, GAMMA)
    value = weight * minus_log_rest
    slope = weight * (p + GAMMA * rest * minus_log_rest)
    slope = tl.where(mirrored, -slope, slope)
    if KIND != FOCAL:
        against_iou = foreground_weight * tl.where(KIND == VARIFOCAL, q, 1.0)
        value = tl.where(is_target, against_iou * ((1.0 - q) * x + minus_log_p), value)
        slope = tl.where(is_target, against_iou * (p - q), slope)
    return value, slope


@triton.jit
@no_type_check
def _classify(
    logits, targets, scores, scales, weights, slopes, sums,
    of_layer, of_image, of_query, of_class, queries, entries,
    CLASSES: tl.constexpr, KIND: tl.constexpr, GAMMA: tl.constexpr, WITH_SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of one layer: the sum of its terms, and the derivative of each."""
    block, layer = tl.program_id(0), tl.program_id(1).to(tl.int64)
    DTYPE: tl.constexpr = weights.dtype.element_ty
    DOUBLE: tl.constexpr = weights.dtype.element_ty == tl.float64
    entry = block * BLOCK + tl.arange(0, BLOCK)
    inside = entry < entries
    row = entry // CLASSES
    image = row // queries
    class_of = entry - row * CLASSES
    within = image * of_image + (row - image * queries) * of_query + class_of * of_class
    x = tl.load(logits + layer * of_layer + within, mask=inside, other=0.0).to(DTYPE)
    of_row = layer * (entries // CLASSES) + row
    target = tl.load(targets + of_row, mask=inside, other=CLASSES)
    q = tl.load(scores + of_row, mask=inside, other=0.0).to(DTYPE)
    background_weight, foreground_weight = tl.load(weights), tl.load(weights + 1)
    value, slope = _terms(x, q, target == class_of, background_weight, foreground_weight, KIND, GAMMA, DOUBLE)
    tl.store(sums + layer * tl.num_programs(0) + block, tl.sum(tl.where(inside, value, 0.0), axis=0))
    if WITH_SLOPES:
        scaled = slope * tl.load(scales + layer).to(DTYPE)
        tl.store(slopes + layer * entries + entry, scaled.to(slopes.dtype.element_ty), mask=inside)


def class_terms(
    logits: Float[Tensor, "layers images queries classes"],
    targets: Int64[Tensor, "layers images queries"],
    scores: Float[Tensor, "layers images queries"],
    options: ClassOptions,
    scales: Float[Tensor, " layers"] | None,
) -> ClassSums:
    """See `class_terms.class_terms`; nothing is read back from the device."""
    layers, images, queries, classes = logits.shape
    entries = images * queries * classes
    blocks = triton.cdiv(entries, BLOCK)
    dtype, device = arithmetic_dtype(logits), logits.device
    given = (options.background_weight, options.foreground_weight)
    weights = torch.stack([_on_device(weight, dtype, device) for weight in given])
    slopes = None if scales is None else torch.empty(logits.shape, dtype=logits.dtype, device=device)
    sums = torch.empty((layers, blocks), dtype=dtype, device=device)
    with torch.cuda.device(logits.get_device()):  # where Triton launches; on the CPU this is -1, which changes nothing
        _classify[(blocks, layers)](
            logits, targets.contiguous(), scores.contiguous(), weights if scales is None else scales, weights,
            sums if slopes is None else slopes, sums, *logits.stride(), queries, entries,
            CLASSES=classes, KIND=options.kind, GAMMA=options.gamma, WITH_SLOPES=slopes is not None, BLOCK=BLOCK,
        )  # fmt: skip
    return ClassSums(sums.sum(1), slopes)


def _on_device(weight: Weight, dtype: torch.dtype, device: torch.device) -> Float[Tensor, ""]:
    """The weight in a tensor. `torch.tensor` and `as_tensor` would wait until the device has it."""
    return weight.to(dtype) if isinstance(weight, Tensor) else torch.full((), weight, dtype=dtype, device=device)


@triton.jit
@no_type_check
def _scale(slopes, scales, entries, BLOCK: tl.constexpr):
    """One block of one layer; where the factor is 1, nothing is read or written."""
    block, layer = tl.program_id(0), tl.program_id(1).to(tl.int64)
    scale = tl.load(scales + layer)
    if scale != 1.0:
        entry = block * BLOCK + tl.arange(0, BLOCK)
        inside = entry < entries
        slope = tl.load(slopes + layer * entries + entry, mask=inside, other=0.0)
        scaled = tl.where(scale == 0.0, 0.0, slope.to(scales.dtype.element_ty) * scale)
        tl.store(slopes + layer * entries + entry, scaled.to(slopes.dtype.element_ty), mask=inside)


def scale_layers(slopes: Float[Tensor, "layers *rest"], scales: Float[Tensor, " layers"]) -> None:
    """See `class_terms.scale_layers`; nothing is read back from the device."""
    entries = slopes[0].numel()
    with torch.cuda.device(slopes.get_device()):
        _scale[(triton.cdiv(entries, 4 * BLOCK), len(slopes))](slopes, scales, entries, BLOCK=4 * BLOCK)
