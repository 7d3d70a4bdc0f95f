"""The classification loss of all layers as one differentiable function with a closed-form derivative."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from detr_conformance.optimized.backends import Backend
from detr_conformance.optimized.options import ClassOptions


def class_loss(
    logits: Float[Tensor, "layers images queries classes"],
    targets: Int64[Tensor, "layers images queries"],
    scores: Float[Tensor, "layers images queries"],
    options: ClassOptions,
    backend: Backend,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Weighted classification loss of the last layer, and summed over the others; see `ClassOptions`.

    Args:
        logits: x, the main layer last.
        targets: class of each query's target; the number of classes stands for background.
        scores: IoU of each query with its target; a constant.
        options: which loss, and its weights.
        backend: what computes it.
    """
    with_slopes = torch.is_grad_enabled() and logits.requires_grad
    main, auxiliary = _ClassLoss.apply(  # type: ignore[no-untyped-call]
        logits, targets, scores, options, backend, with_slopes
    )
    return main, auxiliary


class _ClassLoss(torch.autograd.Function):
    """Value and derivative in one pass over the logits; the backward pass scales the derivative, and hands it on.

    It keeps the only reference to the derivative and gives it away: nothing of the size of the logits is allocated
    twice. Who goes backward through a retained graph once more has it computed again. So has float16, from the start:
    its derivative cannot be stored before the factor of a gradient scaler is known.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        scores: Tensor,
        options: ClassOptions,
        backend: Backend,
        with_slopes: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.options, ctx.backend = options, backend
        ctx.save_for_backward(logits, targets, scores)
        ones = logits.new_ones(len(logits)) if with_slopes and logits.dtype != torch.float16 else None
        sums, ctx.slopes = backend.class_terms(logits, targets, scores, options, ones)
        return sums[-1].clone(), sums[:-1].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_main: Tensor, of_auxiliary: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        logits, targets, scores = ctx.saved_tensors
        scales = torch.cat([of_auxiliary.expand(len(logits) - 1), of_main.expand(1)])
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            _, slopes = ctx.backend.class_terms(logits, targets, scores, ctx.options, scales)
        else:
            ctx.backend.scale_layers(slopes, scales)
        return slopes, None, None, None, None, None
