"""The losses of all layers of one set of queries, given who answers for which target."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.protocol import Backend
from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses, in_place_of_queries
from detr_conformance.optimized.backends.torch.totals import LayerLosses
from detr_conformance.optimized.known_gradient import differentiable_once
from detr_conformance.optimized.masks import Masks
from detr_conformance.optimized.options import UNSCALED, ClassOptions, Weight
from detr_conformance.optimized.targets import Pairs, Targets


class LayerInputs(NamedTuple):
    """Predictions of one set of queries in all layers, the main layer last, and who answers for which target.

    Attributes:
        pred_bboxes: predicted boxes in centre form.
        pred_scores: logits.
        targets: of all images.
        pairs: a row of pairs for each layer.
        masks: of the same layers; None where there are none.
    """

    pred_bboxes: Float[Tensor, "layers images queries 4"]
    pred_scores: Float[Tensor, "layers images queries classes"]
    targets: Targets
    pairs: Pairs
    masks: Masks | None = None


class Configuration(NamedTuple):
    """Which losses, with which weights, computed by what.

    Attributes:
        classification: the classification loss and its weights.
        box_weights: of the L1 and of the GIoU loss.
        backend: what computes them.
        mask_weights: of the focal and of the dice loss of masks; None where there are no masks.
    """

    classification: ClassOptions
    box_weights: tuple[Weight, Weight]
    backend: Backend
    mask_weights: tuple[Weight, Weight] | None = None


def layer_losses(inputs: LayerInputs, configuration: Configuration) -> LayerLosses:
    """All losses of all layers, differentiable by the predictions.

    Without a pair the box losses are 0, and still connected to the graph of the predictions: a data-parallel trainer
    must not take the box head for unused.
    """
    boxes, scores, *_ = inputs  # arguments of their own below, or autograd would not see them
    with_gradient = torch.is_grad_enabled() and scores.requires_grad
    return LayerLosses(*_LayerLosses.apply(boxes, scores, inputs, configuration, with_gradient))  # type: ignore[no-untyped-call]


class _LayerLosses(torch.autograd.Function):
    """Values and derivatives in one go; the backward pass scales the derivatives, and hands them on.

    It keeps the only reference to the derivative with respect to the logits and gives it away: nothing of their size is
    allocated twice. Who goes backward through a retained graph once more has it computed again. So has float16, from
    the start: its derivative cannot be stored before the factor of a gradient scaler is known.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        inputs: LayerInputs,
        configuration: Configuration,
        with_gradient: bool,
    ) -> tuple[Tensor, ...]:
        classification, box_weights, backend, _ = configuration
        terms = backend.matched_terms(pred_bboxes, inputs.targets, inputs.pairs, pred_scores.shape[-1])
        factors = UNSCALED if with_gradient and pred_scores.dtype != torch.float16 else None
        of_classes = (pred_scores, terms.labels, terms.scores)
        sums, ctx.grads = backend.class_terms(*of_classes, classification, factors)
        ctx.configuration, ctx.pairs = configuration, inputs.pairs
        ctx.shape, ctx.dtype = pred_bboxes.shape, pred_bboxes.dtype
        ctx.save_for_backward(pred_bboxes, *of_classes, terms.grad_distance, terms.grad_apart)
        ctx.set_materialize_grads(False)
        return tuple(backend.totals(sums, terms.distance, terms.apart, box_weights))

    @staticmethod
    @differentiable_once(predictions=2)
    def backward(ctx: Any, *of_losses: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        of_class, of_bbox, of_giou, of_class_aux, of_bbox_aux, of_giou_aux = of_losses
        arriving = OfBoxLosses(of_bbox, of_giou, of_bbox_aux, of_giou_aux)
        by_boxes = _grad_boxes(ctx, arriving) if ctx.needs_input_grad[0] else None
        by_scores = _grad_scores(ctx, of_class, of_class_aux) if ctx.needs_input_grad[1] else None
        return by_boxes, by_scores, None, None, None


def _grad_boxes(ctx: Any, arriving: OfBoxLosses) -> Float[Tensor, "layers images queries 4"] | None:
    """Derivative with respect to the boxes; None where nobody asked for a box loss."""
    if all(each is None for each in arriving):
        return None
    *_, grad_distance, grad_apart = ctx.saved_tensors
    _, box_weights, backend, _ = ctx.configuration
    grads: Tensor = backend.grad_boxes(
        grad_distance, grad_apart, box_weights, arriving, ctx.pairs, ctx.shape, ctx.dtype
    )
    return grads


def _grad_scores(
    ctx: Any, of_main: Tensor | None, of_auxiliary: Tensor | None
) -> Float[Tensor, "layers images queries classes"] | None:
    """Derivative with respect to the logits; None where nobody asked for a classification loss."""
    if of_main is None and of_auxiliary is None:
        return None
    options, _, backend, _ = ctx.configuration
    factors = tuple(0.0 if each is None else each for each in (of_main, of_auxiliary))
    grads: Tensor
    grads, ctx.grads = ctx.grads, None
    if grads is None:
        _, grads = backend.class_terms(*ctx.saved_tensors[1:4], options, factors)
    else:
        backend.scale_layers(grads, factors)
    return grads


class LayerTerms(NamedTuple):
    """The losses of all layers, and their derivatives, for a caller that applies the chain rule itself.

    Attributes:
        losses: those of `LayerLosses`, in one tensor.
        grad_class: derivative of the classification loss of each layer with respect to its logits.
        grad_bbox: derivative of the L1 loss of each layer with respect to its boxes.
        grad_giou: derivative of the GIoU loss of each layer with respect to its boxes.
    """

    losses: Float[Tensor, "6"]
    grad_class: Float[Tensor, "layers images queries classes"]
    grad_bbox: Float[Tensor, "layers images queries 4"]
    grad_giou: Float[Tensor, "layers images queries 4"]


def layer_terms(inputs: LayerInputs, configuration: Configuration) -> LayerTerms:
    """The same as `layer_losses`, without a graph."""
    boxes, scores, targets, pairs, _ = inputs
    classification, (bbox_weight, giou_weight), backend, _ = configuration
    terms = backend.matched_terms(boxes, targets, pairs, scores.shape[-1])
    sums, grads = backend.class_terms(scores, terms.labels, terms.scores, classification, UNSCALED)
    assert grads is not None  # noqa: S101  # for the type checker: factors were given
    losses = backend.totals(sums, terms.distance, terms.apart, (bbox_weight, giou_weight))
    return LayerTerms(
        torch.stack(losses),
        grads,
        in_place_of_queries(terms.grad_distance * bbox_weight, pairs, boxes.shape, boxes.dtype),
        in_place_of_queries(terms.grad_apart * giou_weight, pairs, boxes.shape, boxes.dtype),
    )
