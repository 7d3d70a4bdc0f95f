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
    of_layers = (arriving.bbox_aux, arriving.giou_aux), (arriving.bbox, arriving.giou)
    wanted = np.array([[each is not None for each in of_layer] for of_layer in of_layers])
    factors = np.array([[0.0 if each is None else float(each) for each in of_layer] for of_layer in of_layers])
    _place(
        *map(as_array, (grad_distance, grad_apart, pairs.rows)),
        grads.view(len(grads), -1, 4).numpy(),
        factors * [float(weight) for weight in weights], wanted,
    )  # fmt: skip
    return grads.to(dtype)


@compiled
@no_type_check
def _place(grad_distance, grad_apart, rows, grads, factors, wanted):
    """Add what each pair brings to the gradient of its query, which a caller may name twice.

    Factors are those of the layers before the last and of the last, for L1 and GIoU. A loss that is not wanted brings
    nothing, also where it is NaN.
    """
    layers, pairs = rows.shape
    for layer in range(layers):
        which = 1 if layer == layers - 1 else 0
        for pair in range(pairs):
            for number in range(4):
                total = 0.0
                if wanted[which, 0]:
                    total += factors[which, 0] * grad_distance[layer, pair, number]
                if wanted[which, 1]:
                    total += factors[which, 1] * grad_apart[layer, pair, number]
                grads[layer, rows[layer, pair], number] += total
