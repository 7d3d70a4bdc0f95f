"""The gradient of the box losses with respect to all predicted boxes, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.targets import Pairs


class OfBoxLosses(NamedTuple):
    """What arrives in a backward pass at the box losses; None: nobody asked for that one's derivative.

    A number for the last layer and one for all others; or an axis with a number for each, 0 where nobody asked.
    """

    bbox: Float[Tensor, "*main"] | None
    giou: Float[Tensor, "*main"] | None
    bbox_aux: Float[Tensor, "*auxiliary"] | None
    giou_aux: Float[Tensor, "*auxiliary"] | None


def grad_boxes(
    grad_distance: Float[Tensor, "layers pairs 4"],
    grad_apart: Float[Tensor, "layers pairs 4"],
    weights: tuple[Weight, Weight],
    arriving: OfBoxLosses,
    pairs: Pairs,
    shape: torch.Size,
    dtype: torch.dtype,
) -> Float[Tensor, "layers images queries 4"]:
    """Derivative of the box losses with respect to all predicted boxes; 0 for those without a pair.

    Args:
        grad_distance: see `MatchedTerms`.
        grad_apart: see `MatchedTerms`.
        weights: of the L1 and of the GIoU loss.
        arriving: what each of their sums is to be multiplied with.
        pairs: see `matched_terms`.
        shape: of the predicted boxes.
        dtype: of the predicted boxes.
    """
    grads = torch.zeros_like(grad_distance)
    for grad, weight, main, auxiliary in (
        (grad_distance, weights[0], arriving.bbox, arriving.bbox_aux),
        (grad_apart, weights[1], arriving.giou, arriving.giou_aux),
    ):
        if main is not None:
            _add_product(grads[-1:], grad[-1:], main * weight)
        if auxiliary is not None:
            _add_product(grads[:-1], grad[:-1], auxiliary * weight)
    return in_place_of_queries(grads, pairs, shape, dtype)


def _add_product(
    out: Float[Tensor, "layers pairs 4"],
    grads: Float[Tensor, "layers pairs 4"],
    factor: Float[Tensor, " layers"] | Float[Tensor, ""],
) -> None:
    """Add the gradients times a factor for all layers, or for each, where 0 makes 0 of NaN, too."""
    if factor.dim():
        factor = factor[:, None, None]
        grads = grads.where(factor != 0, 0.0)
    out.addcmul_(grads, factor)


def in_place_of_queries(
    grads: Float[Tensor, "layers pairs 4"], pairs: Pairs, shape: torch.Size, dtype: torch.dtype
) -> Float[Tensor, "layers images queries 4"]:
    """The derivative with respect to all predicted boxes, of which `grads` is that to the matched ones."""
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    layers, images, queries, _ = shape
    return grads.new_zeros(layers, images * queries, 4).scatter_add_(1, rows, grads).view(shape).to(dtype)
