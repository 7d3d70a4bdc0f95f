"""`torch.box_gradients.grad_boxes` in one loop over the pairs."""

from __future__ import annotations

from typing import no_type_check

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
    grads = torch.zeros(shape)
    of_bbox, of_giou, of_bbox_aux, of_giou_aux = (0.0 if each is None else float(each) for each in arriving)
    bbox, giou = (float(weight) for weight in weights)
    _place(
        *map(as_array, (grad_distance, grad_apart, pairs.rows)),
        grads.view(len(grads), -1, 4).numpy(),
        bbox * of_bbox, giou * of_giou, bbox * of_bbox_aux, giou * of_giou_aux,
    )  # fmt: skip
    return grads.to(dtype)


@compiled
@no_type_check
def _place(grad_distance, grad_apart, rows, grads, bbox, giou, bbox_aux, giou_aux):
    """Add what each pair brings to the gradient of its query, which a caller may name twice."""
    layers, pairs = rows.shape
    for layer in range(layers):
        is_main = layer == layers - 1
        of_bbox, of_giou = (bbox, giou) if is_main else (bbox_aux, giou_aux)
        for pair in range(pairs):
            for number in range(4):
                # A factor of 0 makes 0 of NaN, too: nobody asked for that loss.
                total = of_bbox * grad_distance[layer, pair, number] if of_bbox != 0 else 0.0
                total += of_giou * grad_apart[layer, pair, number] if of_giou != 0 else 0.0
                grads[layer, rows[layer, pair], number] += total
