"""Classification terms in plain torch: one pass over the logits in blocks that stay in the cache."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from detr_conformance.optimized.backends.torch.fading import LINEAR_ABOVE, Fading, multiple
from detr_conformance.optimized.backends.torch.scratch import scratch
from detr_conformance.optimized.options import ClassOptions, Factors
from detr_conformance.optimized.precision import arithmetic_dtype

BLOCK = 1 << 19
"""Entries in a block. With smaller ones torch's threads wait for each other after every operation."""


class ClassSums(NamedTuple):
    """The weighted loss of each layer, and its derivative with respect to the logits where that was asked for.

    Attributes:
        sums: adds up, in each row, to the loss of the layer.
        grads: the derivative.
    """

    sums: Float[Tensor, "layers parts"]
    grads: Float[Tensor, "layers images queries classes"] | None


def class_terms(
    logits: Float[Tensor, "layers images queries classes"],
    labels: Integer[Tensor, "layers images queries"],
    scores: Float[Tensor, "layers images queries"],
    options: ClassOptions,
    factors: Factors | None,
) -> ClassSums:
    """The classification loss of every layer, and its derivative, in one pass over the logits.

    Almost every entry is background: one pass treats each as such, and the few entries of target classes, which it
    leaves out, are computed apart. No one-hot tensor exists.

    Args:
        logits: x.
        labels: class of each query's target; the number of classes stands for background.
        scores: IoU of each query with its target.
        options: which loss, and its weights; see there for the formula.
        factors: what the derivatives are multiplied by, which are then computed too, in the dtype of the logits. The
            factor comes in before that dtype rounds: float16 needs it, where a derivative may be too small for the
            dtype and its multiple, by the factor of a gradient scaler, is not.
    """
    entries = _target_entries(labels, logits.shape[-1])
    grads = None if factors is None else torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    of_layers = [1.0] * len(logits) if factors is None else factor_of_layers(factors, len(logits))
    sums = _background(logits, entries, options, grads, of_layers)
    x, q = torch.take(logits, entries), scores.reshape(-1)[entries // logits.shape[-1]]
    values, grad_positive = positive_terms(x.to(sums.dtype), q.to(sums.dtype), options)
    layer = entries // logits[0].numel()
    sums.index_add_(0, layer, values)
    if grads is not None:
        factor = torch.tensor(of_layers, dtype=sums.dtype, device=sums.device)
        grads.view(-1)[entries] = (grad_positive * factor[layer]).to(grads.dtype)
    return ClassSums(sums[:, None], grads)


def factor_of_layers(factors: Factors, layers: int) -> list[float]:
    """The factor of each layer, the main one last."""
    main, auxiliary = factors
    if isinstance(auxiliary, Tensor) and auxiliary.dim():
        return [*auxiliary.tolist(), float(main)]
    return [float(auxiliary)] * (layers - 1) + [float(main)]


def scale_layers(grads: Float[Tensor, "layers *rest"], factors: Factors) -> None:
    """Multiply the derivative of each layer by its factor, in place.

    Most training loops add the losses up, so that each factor is 1 and nothing is to be done. A factor of 0 makes 0 of
    NaN, too: nobody asked for that layer.
    """
    for grad, scale in zip(grads, factor_of_layers(factors, len(grads)), strict=True):
        if scale == 0:
            grad.zero_()
        elif scale != 1:
            grad.mul_(scale)


def _target_entries(labels: Integer[Tensor, "layers images queries"], classes: int) -> Int64[Tensor, " matched"]:
    """Where in the flattened logits the entries of target classes are, ascending."""
    flat = labels.reshape(-1)
    rows = torch.nonzero(flat < classes).squeeze(1)
    return rows * classes + flat[rows]


def positive_terms(
    x: Float[Tensor, " matched"], q: Float[Tensor, " matched"], options: ClassOptions
) -> tuple[Float[Tensor, " matched"], Float[Tensor, " matched"]]:
    """Weighted terms of the target classes and their derivatives; see `ClassOptions`.

    The derivative of a focal or varifocal term of an infinite logit is NaN: a gradient scaler skips such a step.
    """
    weight = float(options.foreground_weight)
    if options.kind == "focal":
        terms, grad = Fading.like(x), torch.empty_like(x)
        terms.compute(-x, options.gamma, weight, grad)
        return terms.terms(options.gamma), x - x - grad
    entropy, grad = (1 - q) * x + F.softplus(-x, threshold=LINEAR_ABOVE), torch.sigmoid(x) - q
    if options.kind == "varifocal":
        return weight * q * entropy, weight * q * (x - x + grad)
    return weight * entropy, weight * grad


def _background(
    logits: Float[Tensor, "layers images queries classes"],
    left_out: Int64[Tensor, " matched"],
    options: ClassOptions,
    grads: Float[Tensor, "layers images queries classes"] | None,
    factors: list[float],
) -> Float[Tensor, " layers"]:
    """Sum over the background of every layer; `grads` receives the scaled derivative, 0 where left out."""
    layers, images = logits.shape[:2]
    # Logits that are the first or last queries of a larger tensor have gaps between the images.
    together = (layers, 1, -1) if logits.is_contiguous() else (layers, images, -1)
    blocks = _cut(logits.reshape(together))
    outs = [None] * len(blocks) if grads is None else _cut(grads.view(together))
    each = len(blocks) // layers
    dtype, weight = arithmetic_dtype(logits), float(options.background_weight)
    largest = max(block.numel() for block in blocks)
    memory = scratch(logits.device, *[((largest,), dtype)] * len(Fading._fields))
    sums = []
    for number, (block, out, part) in enumerate(zip(blocks, outs, _parts(left_out, blocks), strict=True)):
        x = block.to(dtype)
        terms = Fading(*(plane[: x.numel()].view(x.shape) for plane in memory))
        grad = out if out is None or out.dtype == dtype else torch.empty_like(x)
        terms.compute(x, options.gamma, weight, grad, part, is_weight_live=options.is_weight_live)
        sums.append(terms.scaled.sum())
        if out is not None and grad is not None:
            _store(grad, factors[number // each], out)
    return torch.stack(sums).view(layers, each).sum(1) / multiple(options.gamma)


def _cut(of_layers: Float[Tensor, "layers images entries"]) -> list[Float[Tensor, "some_images some_entries"]]:
    """Blocks of at most `BLOCK` entries of one layer each, equally many of every layer, in the order of the logits."""
    _, images, entries = of_layers.shape
    if entries > BLOCK:
        return [block for layer in of_layers for image in layer.split(1) for block in image.split(BLOCK, dim=1)]
    return [block for layer in of_layers for block in layer.split(max(1, min(images, BLOCK // entries)))]


def _parts(left_out: Int64[Tensor, " matched"], blocks: list[Tensor]) -> list[Int64[Tensor, " some"] | None]:
    """For each block the positions in it that are left out; None where there are none."""
    on_host = left_out.cpu()  # how many a block has decides over shapes
    first = torch.tensor([0, *accumulate(block.numel() for block in blocks)])
    bounds = torch.searchsorted(on_host, first)
    local = on_host - first[:-1].repeat_interleave(bounds.diff())
    return [part.to(left_out.device) if part.numel() else None for part in local.tensor_split(bounds[1:-1])]


def _store(grad: Float[Tensor, "*block"], factor: float, out: Float[Tensor, "*block"]) -> None:
    """The scaled derivative into its place, where it may have been computed already."""
    if factor != 1:
        grad.mul_(factor)
    if grad is not out:
        out.copy_(grad)
