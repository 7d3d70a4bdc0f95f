"""A scalar whose derivative was computed with it, for the parts of the loss that are public on their own."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def known_slope(
    pred: Float[Tensor, "*shape"], value: Float[Tensor, ""], slope: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """The value, differentiable by the predictions, in whose dtype the derivative arrives there.

    Args:
        pred: predictions.
        value: a number computed from them without a graph.
        slope: its derivative with respect to them, in the dtype of the arithmetic.
    """
    total: Tensor = _KnownSlope.apply(pred, value, slope)  # type: ignore[no-untyped-call]
    return total


class _KnownSlope(torch.autograd.Function):
    """See `known_slope`."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.dtype = pred.dtype
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * of_value).to(ctx.dtype), None, None
