"""A scalar whose derivative was computed with it, for the parts of the loss that are public on their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Gradients = tuple[Tensor | None, ...]


def differentiable_once(predictions: int) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Let a backward pass compute without a graph, and its result refuse to be differentiated.

    torch's `once_differentiable` does so only where what arrives has a gradient itself. With the 1 that a loss begins
    with, the result of `create_graph=True` would be a constant, and a penalty on it would add nothing in silence.

    Args:
        predictions: so many of the saved tensors, the first, are the predictions.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @wraps(backward)
        def computed(ctx: Any, *arriving: Tensor | None) -> Gradients:
            with torch.no_grad():
                gradients = backward(ctx, *arriving)
            if not torch.is_grad_enabled():
                return gradients
            made_from = ctx.saved_tensors[:predictions]
            return tuple(each if each is None else _Refusing.apply(each, *made_from) for each in gradients)  # type: ignore[no-untyped-call]

        return computed

    return decorate


class _Refusing(torch.autograd.Function):
    """A gradient as it is, whose own derivative by the predictions is an error."""

    @staticmethod
    def forward(_ctx: Any, gradient: Tensor, *_predictions: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(_ctx: Any, *_: Tensor) -> Gradients:
        raise RuntimeError("the loss can be differentiated once, and this asks for its second derivative")


def known_gradient(
    pred: Float[Tensor, "*shape"], value: Float[Tensor, ""], grad: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """The value, differentiable by the predictions, in whose dtype the derivative arrives there.

    Args:
        pred: predictions.
        value: a number computed from them without a graph.
        grad: its derivative with respect to them, in the dtype of the arithmetic.
    """
    total: Tensor = _KnownGradient.apply(pred, value, grad)  # type: ignore[no-untyped-call]
    return total


class _KnownGradient(torch.autograd.Function):
    """See `known_gradient`."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, value: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(pred, grad)
        ctx.dtype = pred.dtype
        return value.clone()

    @staticmethod
    @differentiable_once(predictions=1)
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor, None, None]:
        _, grad = ctx.saved_tensors
        return (grad * of_value).to(ctx.dtype), None, None
