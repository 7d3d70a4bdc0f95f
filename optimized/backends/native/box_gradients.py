"""`torch.box_gradients.grad_boxes` in one loop over the pairs."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.native.jit import as_array, compiled
from detr_conformance.optimized.backends.torch import box_gradients as plain
from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses
from detr_conformance.optimized.backends.torch.classification import factor_of_layers
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.targets import Pairs


def grad_boxes(
    grad_distance: Float[Tensor, "layers pairs 4"],
    grad_apart: Float[Tensor, "layers pairs 4"],
    weights: tuple[Weight, Weight],
    arriving: OfBoxLosses,
    pairs: Pairs,
    shape: torch.Size,
    dtype: torch.dtype,
) -> Float[Tensor, "layers images queries 4"]:
    """See `torch.box_gradients`; float64 goes that way."""
    if grad_distance.dtype is torch.float64:
        return plain.grad_boxes(grad_distance, grad_apart, weights, arriving, pairs, shape, dtype)
    grads = torch.zeros(shape, dtype=torch.float32)
    terms = (arriving.bbox, arriving.bbox_aux), (arriving.giou, arriving.giou_aux)
    of_terms = [_of_layers(*term, len(grads)) for term in terms]
    factors, wanted = (np.stack(each, axis=1) for each in zip(*of_terms, strict=True))
    _place(
        *map(as_array, (grad_distance, grad_apart, pairs.rows)),
        grads.view(len(grads), -1, 4).numpy(),
        factors * [float(weight) for weight in weights], wanted,
    )  # fmt: skip
    return grads.to(dtype)


def _of_layers(main: Tensor | None, auxiliary: Tensor | None, layers: int) -> tuple[list[float], list[bool]]:
    """The factor of each layer, and whether anybody asked for it; see `OfBoxLosses`."""
    factors = factor_of_layers((0.0 if main is None else main, 0.0 if auxiliary is None else auxiliary), layers)
    given = [auxiliary is not None] * (layers - 1) + [main is not None]
    if main is not None and main.dim():
        given = [factor != 0 for factor in factors]
    return factors, given


@compiled
@no_type_check
def _place(grad_distance, grad_apart, rows, grads, factors, wanted):
    """Add what each pair brings to the gradient of its query, which a caller may name twice.

    Factors are those of each layer for L1 and GIoU. A loss that is not wanted brings nothing, also where it is NaN.
    """
    layers, pairs = rows.shape
    for layer in range(layers):
        for pair in range(pairs):
            for number in range(4):
                total = 0.0
                if wanted[layer, 0]:
                    total += factors[layer, 0] * grad_distance[layer, pair, number]
                if wanted[layer, 1]:
                    total += factors[layer, 1] * grad_apart[layer, pair, number]
                grads[layer, rows[layer, pair], number] += total
