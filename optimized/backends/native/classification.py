"""`torch.classification.class_terms`, image by image: each logit is read once and its derivative written once."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from detr_conformance.optimized.backends.native.arithmetic import ZERO, F, logistic, power, softplus
from detr_conformance.optimized.backends.native.jit import (
    as_array,
    compiled,
    compiled_in_any_order,
    in_memory,
    in_threads,
    inlined,
)
from detr_conformance.optimized.backends.torch import classification as plain
from detr_conformance.optimized.backends.torch.classification import ClassSums, factor_of_layers
from detr_conformance.optimized.options import ClassOptions, Factors
from detr_conformance.optimized.precision import arithmetic_dtype

BLOCK = 1024
"""Logits at once: a fixed number, so that the loops are vectorised, whose terms stay in the nearest cache."""

PER_LOGIT = 3
"""Nanoseconds."""

NOTHING = F(-1e4)
"""A logit in the place of one that is left out: its term and its derivative are 0."""

KINDS = {"focal": 0, "varifocal": 1, "bce": 2}
scale_layers = plain.scale_layers


def class_terms(
    logits: Float[Tensor, "layers images queries classes"],
    labels: Integer[Tensor, "layers images queries"],
    scores: Float[Tensor, "layers images queries"],
    options: ClassOptions,
    factors: Factors | None,
) -> ClassSums:
    """See `torch.classification`; float64 goes that way."""
    if arithmetic_dtype(logits) is torch.float64:
        return plain.class_terms(logits, labels, scores, options, factors)
    layers, images, _, classes = logits.shape
    flat, strides = in_memory(logits)
    grads = torch.from_numpy(np.empty(logits.shape if factors is not None else 0, np.float32))
    sums = torch.empty(layers, images, dtype=torch.float32)
    wanted = np.asarray([1.0] * layers if factors is None else factor_of_layers(factors, layers), np.float32)
    arrays = (flat, as_array(labels.long()), as_array(scores.float()), wanted)
    outs = (grads.view(-1).numpy(), sums.numpy())
    weights = (float(options.gamma), float(options.background_weight), float(options.foreground_weight))

    def work(start: int, stop: int) -> None:
        _images(start, stop, *arrays, *outs, classes, *strides, KINDS[options.kind], options.is_weight_live, *weights)

    in_threads(work, layers * images, PER_LOGIT * logits.numel())
    return ClassSums(sums, None if factors is None else grads.to(logits.dtype))


@compiled
@no_type_check
def _images(
    start, stop, logits, labels, scores, factors, grads, sums,
    classes, of_layer, of_image, kind, is_weight_live, gamma, background_weight, foreground_weight,
):  # fmt: skip
    """The images from `start` to before `stop`, counted through the layers."""
    images, queries = labels.shape[1:]
    x, terms, grad_block = np.empty(BLOCK, F), np.empty(BLOCK, F), np.empty(BLOCK, F)
    entries = queries * classes
    slope = F(gamma) if is_weight_live else ZERO
    for piece in range(start, stop):
        layer, image = piece // images, piece % images
        own, own_scores = labels[layer, image], scores[layer, image]
        first_logit, first_grad, factor = layer * of_layer + image * of_image, piece * entries, factors[layer]
        total = 0.0
        for first in range(0, entries, BLOCK):
            size = min(BLOCK, entries - first)
            x[:size] = logits[first_logit + first : first_logit + first + size]
            x[size:] = NOTHING
            _leave_out(x, own, first, size, classes)
            _background(x, terms, grad_block, gamma, slope, F(background_weight))
            total += _sum(terms)
            if grads.size:
                out = grads[first_grad + first : first_grad + first + size]
                for entry in range(size):
                    out[entry] = grad_block[entry] * factor
        for query in range(queries):
            label = own[query]
            if label < classes:
                entry = query * classes + label
                term, grad = _target(logits[first_logit + entry], own_scores[query], kind, gamma)
                total += foreground_weight * term
                if grads.size:
                    grads[first_grad + entry] = F(foreground_weight * grad) * factor  # as what is scaled later
        sums[layer, image] = total


@compiled
@no_type_check
def _leave_out(x, labels, first, size, classes):
    """The entries of target classes in one block."""
    for query in range(first // classes, (first + size - 1) // classes + 1):
        entry = query * classes + labels[query] - first
        if labels[query] < classes and 0 <= entry < size:
            x[entry] = NOTHING


@compiled
@no_type_check
def _background(x, terms, grad_block, gamma, slope, weight):
    """weight p^gamma softplus(x) and its derivative, see `torch.fading`, with one loop for each form of the power."""
    if gamma == 2:
        for entry in range(BLOCK):
            p, rest, shared = logistic(x[entry])
            faded = weight * (p * p)
            terms[entry] = faded * softplus(x[entry], shared)
            grad_block[entry] = _grad(p, rest, faded, terms[entry], slope)
    elif gamma == 1.5:
        for entry in range(BLOCK):
            p, rest, shared = logistic(x[entry])
            faded = weight * (p * np.sqrt(p))
            terms[entry] = faded * softplus(x[entry], shared)
            grad_block[entry] = _grad(p, rest, faded, terms[entry], slope)
    elif gamma == 0:
        for entry in range(BLOCK):
            p, _, shared = logistic(x[entry])
            terms[entry] = weight * softplus(x[entry], shared)
            grad_block[entry] = p * weight
    else:
        for entry in range(BLOCK):
            p, rest, shared = logistic(x[entry])
            faded = weight * power(x[entry], shared, gamma)
            terms[entry] = faded * softplus(x[entry], shared)
            grad_block[entry] = _grad(p, rest, faded, terms[entry], slope)


@inlined
@no_type_check
def _grad(p, rest, faded, term, slope):
    """The derivative of a background term; with a slope of 0 instead of gamma its weight is a constant."""
    return p * faded if slope == ZERO else rest * (slope * term) + p * faded


@compiled_in_any_order
@no_type_check
def _sum(terms):
    """Of a block, in as many sums at once as vectors hold."""
    total = ZERO
    for entry in range(BLOCK):
        total += terms[entry]
    return np.float64(total)


@compiled
@no_type_check
def _target(x, q, kind, gamma):
    """Term and derivative of a target's class before the weight, see `torch.classification.positive_terms`."""
    x, q = np.float64(x), np.float64(q)  # numba's float() leaves float32 as it is
    e = math.exp(-abs(x))
    p = 1 / (1 + e) if x >= 0 else e / (1 + e)
    rest = e / (1 + e) if x >= 0 else 1 / (1 + e)
    minus_log_p = max(-x, 0.0) + math.log1p(e) if x == x else x
    if kind == 0:
        faded = rest**gamma
        term = faded * minus_log_p
        # Of an infinite logit the derivative is NaN, and the term where it is 0 times infinity.
        return term if x < 0 else term + (x - x), x - x - (p * gamma * term + rest * faded)
    entropy, grad = (1 - q) * x + minus_log_p, p - q
    return (q * entropy, q * (x - x + grad)) if kind == 1 else (entropy, grad)
