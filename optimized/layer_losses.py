"""The losses of all layers of one set of queries, given who answers for which target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.protocol import Backend
from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses, in_place_of_queries
from detr_conformance.optimized.backends.torch.pairs import MatchedTerms
from detr_conformance.optimized.backends.torch.totals import LayerLosses, LossesOfLayer, of_layers
from detr_conformance.optimized.known_gradient import differentiable_once
from detr_conformance.optimized.masks import Masks
from detr_conformance.optimized.options import IOU_EPS, UNSCALED, ClassOptions, Weight
from detr_conformance.optimized.targets import Pairs, Targets

TERMS = len(LossesOfLayer._fields)


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
        eps: added to the areas of union and hull.
        score_exponent: the target of classification is the IoU to this power.
    """

    classification: ClassOptions
    box_weights: tuple[Weight, Weight]
    backend: Backend
    mask_weights: tuple[Weight, Weight] | None = None
    eps: float = IOU_EPS
    score_exponent: float = 1.0


def layer_losses(inputs: LayerInputs, configuration: Configuration) -> LayerLosses:
    """The losses of the last layer and their sums over the others, differentiable by the predictions.

    Without a pair the box losses are 0, and still connected to the graph of the predictions: a data-parallel trainer
    must not take the box head for unused.
    """
    return LayerLosses(*_computed(inputs, configuration, by_layer=False))


def losses_by_layer(inputs: LayerInputs, configuration: Configuration) -> list[LossesOfLayer]:
    """The same losses, those of each layer apart."""
    losses, layers = _computed(inputs, configuration, by_layer=True), len(inputs.pred_scores)
    return [LossesOfLayer(*losses[layer::layers]) for layer in range(layers)]


def _computed(inputs: LayerInputs, configuration: Configuration, by_layer: bool) -> tuple[Tensor, ...]:
    """The losses in the order of `LayerLosses`; by layer, each term in all layers after the other."""
    boxes, scores, *_ = inputs  # arguments of their own below, or autograd would not see them
    with_gradient = torch.is_grad_enabled() and scores.requires_grad
    losses: tuple[Tensor, ...]
    losses = _LayerLosses.apply(boxes, scores, inputs, configuration, by_layer, with_gradient)  # type: ignore[no-untyped-call]
    return losses


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
        by_layer: bool,
        with_gradient: bool,
    ) -> tuple[Tensor, ...]:
        classification, box_weights, backend, *_ = configuration
        terms = _matched_terms(pred_bboxes, pred_scores, inputs, configuration)
        factors = UNSCALED if with_gradient and pred_scores.dtype != torch.float16 else None
        of_classes = (pred_scores, terms.labels, terms.scores)
        sums, ctx.grads = backend.class_terms(*of_classes, classification, factors)
        ctx.configuration, ctx.pairs = configuration, inputs.pairs
        ctx.shape, ctx.dtype = pred_bboxes.shape, pred_bboxes.dtype
        ctx.save_for_backward(pred_bboxes, *of_classes, terms.grad_distance, terms.grad_apart)
        ctx.set_materialize_grads(False)
        ctx.by_layer = by_layer
        parts = sums, terms.distance, terms.apart
        if by_layer:  # copies, as in `totals`
            return tuple(loss.clone() for term in of_layers(*parts, box_weights) for loss in term.unbind())
        return tuple(backend.totals(*parts, box_weights))

    @staticmethod
    @differentiable_once(predictions=2)
    def backward(ctx: Any, *of_losses: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        arriving = _of_layers(of_losses) if ctx.by_layer else of_losses
        of_class, of_bbox, of_giou, of_class_aux, of_bbox_aux, of_giou_aux = arriving
        of_boxes = OfBoxLosses(of_bbox, of_giou, of_bbox_aux, of_giou_aux)
        by_boxes = _grad_boxes(ctx, of_boxes) if ctx.needs_input_grad[0] else None
        by_scores = _grad_scores(ctx, of_class, of_class_aux) if ctx.needs_input_grad[1] else None
        return by_boxes, by_scores, None, None, None, None


def _matched_terms(
    pred_bboxes: Tensor, pred_scores: Tensor, inputs: LayerInputs, configuration: Configuration
) -> MatchedTerms:
    """What the pairs contribute, with the targets of classification."""
    given = pred_bboxes, inputs.targets, inputs.pairs, pred_scores.shape[-1]
    terms = configuration.backend.matched_terms(*given, configuration.eps)
    exponent = configuration.score_exponent
    return terms if exponent == 1.0 else terms._replace(scores=terms.scores**exponent)


def _of_layers(of_losses: Sequence[Tensor | None]) -> list[Tensor | None]:
    """What arrives at each loss of each layer, in the order of `LayerLosses`, with an axis of layers."""
    layers = len(of_losses) // TERMS
    terms = [of_losses[start : start + layers] for start in range(0, len(of_losses), layers)]
    together = [_together(term) for term in terms]
    return [None if each is None else each[part] for part in (slice(-1, None), slice(-1)) for each in together]


def _together(of_layers: Sequence[Tensor | None]) -> Float[Tensor, " layers"] | None:
    """What arrives at one loss in all layers, 0 where nobody asked for it."""
    given = next((each for each in of_layers if each is not None), None)
    return None if given is None else torch.stack([torch.zeros_like(given) if e is None else e for e in of_layers])


def _grad_boxes(ctx: Any, arriving: OfBoxLosses) -> Float[Tensor, "layers images queries 4"] | None:
    """Derivative with respect to the boxes; None where nobody asked for a box loss."""
    if all(each is None for each in arriving):
        return None
    *_, grad_distance, grad_apart = ctx.saved_tensors
    _, box_weights, backend, *_ = ctx.configuration
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
    options, _, backend, *_ = ctx.configuration
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
    boxes, scores, _, pairs, _ = inputs
    classification, (bbox_weight, giou_weight), backend, *_ = configuration
    terms = _matched_terms(boxes, scores, inputs, configuration)
    sums, grads = backend.class_terms(scores, terms.labels, terms.scores, classification, UNSCALED)
    assert grads is not None  # noqa: S101  # for the type checker: factors were given
    losses = backend.totals(sums, terms.distance, terms.apart, (bbox_weight, giou_weight))
    return LayerTerms(
        torch.stack(losses),
        grads,
        in_place_of_queries(terms.grad_distance * bbox_weight, pairs, boxes.shape, boxes.dtype),
        in_place_of_queries(terms.grad_apart * giou_weight, pairs, boxes.shape, boxes.dtype),
    )
