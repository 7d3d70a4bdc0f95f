"""`torch.classification.class_terms` in one launch, with each logit read once and its derivative written once."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Integer
from torch import Tensor

from detr_conformance.optimized.backends.torch.classification import ClassSums
from detr_conformance.optimized.backends.triton.arithmetic import logistic, power
from detr_conformance.optimized.backends.triton.weights import as_arguments, as_tensor, of_layer, step_of, weight_at
from detr_conformance.optimized.options import ClassOptions, Factors
from detr_conformance.optimized.precision import arithmetic_dtype

BLOCK = 1024
"""Entries of one program, of one image: loads enough to keep the memory busy, and few enough to leave registers."""

BCE = tl.constexpr("bce")
FOCAL = tl.constexpr("focal")
VARIFOCAL = tl.constexpr("varifocal")


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _terms(
    x, q, is_target, background_weight, foreground_weight,
    KIND: tl.constexpr, LIVE: tl.constexpr, GAMMA: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Weighted terms and their derivatives; see `ClassOptions`."""
    # A positive term of the focal loss is a background term of the mirrored logit.
    mirrored = is_target & (KIND == FOCAL)
    z = tl.where(mirrored, -x, x)
    p, rest, minus_log_rest, minus_log_p = logistic(z, DOUBLE)
    weight = tl.where(mirrored, foreground_weight, background_weight) * power(p, minus_log_p, GAMMA)
    value = weight * minus_log_rest
    grad = weight * p
    if LIVE and GAMMA != 0.0:  # 0 times infinity would be no number
        grad += GAMMA * rest * value
    grad = tl.where(mirrored, -grad, grad)
    if KIND != FOCAL:
        against_iou = foreground_weight * tl.where(KIND == VARIFOCAL, q, 1.0)
        value = tl.where(is_target, against_iou * ((1.0 - q) * x + minus_log_p), value)
        grad = tl.where(is_target, against_iou * (p - q), grad)
    if KIND != BCE:
        grad = tl.where(is_target, grad + (x - x), grad)  # NaN where x is infinite, so that a gradient scaler sees it
    return value, grad


@triton.jit(do_not_specialize=["step"])
@no_type_check
def _classify(
    logits, labels, scores, grads, sums, weights, main, auxiliary, step,
    background_bits: tl.int64, foreground_bits: tl.int64,
    from_layer, from_image, from_query, from_class, queries, entries,
    CLASSES: tl.constexpr, DENSE: tl.constexpr, KIND: tl.constexpr, LIVE: tl.constexpr, GAMMA: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of one image in one layer: the sum of its terms, and the derivative of each."""
    block, image, layer = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    DTYPE: tl.constexpr = sums.dtype.element_ty
    DOUBLE: tl.constexpr = sums.dtype.element_ty == tl.float64
    entry = block * BLOCK + tl.arange(0, BLOCK)
    inside = entry < entries
    row = entry // CLASSES
    class_of = entry - row * CLASSES
    # Without gaps a thread reads several logits at once.
    within = entry if DENSE else row * from_query + class_of * from_class
    x = tl.load(logits + layer * from_layer + image * from_image + within, mask=inside, other=0.0).to(DTYPE)
    which = layer * tl.num_programs(1) + image
    is_target = tl.load(labels + which * queries + row, mask=inside, other=CLASSES) == class_of
    q = 0.0
    if KIND != FOCAL:
        q = tl.load(scores + which * queries + row, mask=is_target, other=0.0).to(DTYPE)
    background_weight = weight_at(weights, background_bits, 0, DTYPE)
    foreground_weight = weight_at(weights, foreground_bits, 1, DTYPE)
    value, grad = _terms(x, q, is_target, background_weight, foreground_weight, KIND, LIVE, GAMMA, DOUBLE)
    tl.store(sums + which * tl.num_programs(0) + block, tl.sum(tl.where(inside, value, 0.0), axis=0))
    if grads is not None:
        if main is not None or auxiliary is not None:
            grad = of_layer(grad, main, auxiliary, step, layer, tl.num_programs(2))
        tl.store(grads + which * entries + entry, grad.to(grads.dtype.element_ty), mask=inside)


def class_terms(
    logits: Float[Tensor, "layers images queries classes"],
    labels: Integer[Tensor, "layers images queries"],
    scores: Float[Tensor, "layers images queries"],
    options: ClassOptions,
    factors: Factors | None,
) -> ClassSums:
    """See `torch.classification.class_terms`; nothing is read back from the device."""
    layers, images, queries, classes = logits.shape
    entries = queries * classes
    blocks = triton.cdiv(entries, BLOCK)
    dtype, device = arithmetic_dtype(logits), logits.device
    weights, bits = as_arguments((options.background_weight, options.foreground_weight), dtype, device)
    grads = None if factors is None else torch.empty(logits.shape, dtype=logits.dtype, device=device)
    sums = torch.empty((layers, images * blocks), dtype=dtype, device=device)
    with torch.cuda.device(logits.get_device()):  # where Triton launches; -1 on the CPU, which changes nothing
        _classify[(blocks, images, layers)](
            logits, labels.contiguous(), scores.contiguous(), grads, sums, weights, *_pointers(factors, dtype, device),
            0 if factors is None else step_of(factors[1]),
            *bits, *logits.stride(), queries, entries, CLASSES=classes, DENSE=logits.stride()[2:] == (classes, 1),
            KIND=options.kind, LIVE=options.is_weight_live, GAMMA=options.gamma, BLOCK=BLOCK,
        )  # fmt: skip
    return ClassSums(sums, grads)


def _pointers(
    factors: Factors | None, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "*main"] | None, Float[Tensor, "*auxiliary"] | None]:
    """The factors as a kernel gets them; None and None where there is nothing to multiply."""
    if factors is None or all(isinstance(factor, float) and factor == 1.0 for factor in factors):
        return None, None
    main, auxiliary = (as_tensor(factor, dtype, device) for factor in factors)
    return main, auxiliary


@triton.jit(do_not_specialize=["step"])
@no_type_check
def _scale(grads, main, auxiliary, step, entries, BLOCK: tl.constexpr):
    """One block of one layer; where the factor is 1, nothing is read or written."""
    block, layer = tl.program_id(0), tl.program_id(1).to(tl.int64)
    is_main = layer == tl.num_programs(1) - 1
    scale = tl.load(auxiliary + tl.where(is_main, 0, layer * step))
    if is_main:
        scale = tl.load(main)
    if scale != 1.0:
        entry = block * BLOCK + tl.arange(0, BLOCK)
        inside = entry < entries
        grad = tl.load(grads + layer * entries + entry, mask=inside, other=0.0)
        scaled = tl.where(scale == 0.0, 0.0, grad.to(main.dtype.element_ty) * scale)
        tl.store(grads + layer * entries + entry, scaled.to(grads.dtype.element_ty), mask=inside)


def scale_layers(grads: Float[Tensor, "layers *rest"], factors: Factors) -> None:
    """See `torch.classification.scale_layers`; nothing is read back from the device."""
    entries = grads[0].numel()
    main, auxiliary = (as_tensor(factor, arithmetic_dtype(grads), grads.device) for factor in factors)
    with torch.cuda.device(grads.get_device()):
        _scale[(triton.cdiv(entries, 4 * BLOCK), len(grads))](
            grads, main, auxiliary, step_of(auxiliary), entries, BLOCK=4 * BLOCK
        )  # fmt: skip
