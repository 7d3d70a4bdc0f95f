"""The losses of all layers of one set of queries, given who answers for which target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.backends import Backend
from detr_conformance.optimized.box_loss import box_losses, in_place_of_queries, matched_terms
from detr_conformance.optimized.class_loss import class_loss
from detr_conformance.optimized.options import ClassOptions, Weight
from detr_conformance.optimized.targets import Pairs, Targets


class LayerInputs(NamedTuple):
    """Predictions of one set of queries in all layers, the main layer last, and who answers for which target.

    Attributes:
        pred_bboxes: predicted boxes in centre form.
        pred_scores: logits.
        targets: of all images.
        pairs: a row of pairs for each layer.
    """

    pred_bboxes: Float[Tensor, "layers images queries 4"]
    pred_scores: Float[Tensor, "layers images queries classes"]
    targets: Targets
    pairs: Pairs


class Configuration(NamedTuple):
    """Which losses, with which weights, computed by what.

    Attributes:
        classification: the classification loss and its weights.
        bbox_weight: of the L1 loss.
        giou_weight: of the GIoU loss.
        backend: what computes them.
    """

    classification: ClassOptions
    bbox_weight: Weight
    giou_weight: Weight
    backend: Backend


class LayerLosses(NamedTuple):
    """Each loss of the last layer, and summed over the others."""

    cls: Float[Tensor, ""]
    bbox: Float[Tensor, ""]
    giou: Float[Tensor, ""]
    cls_aux: Float[Tensor, ""]
    bbox_aux: Float[Tensor, ""]
    giou_aux: Float[Tensor, ""]


def layer_losses(inputs: LayerInputs, configuration: Configuration) -> LayerLosses:
    """All losses of all layers, differentiable by the predictions."""
    classification, *box_weights, backend = configuration
    boxes = box_losses(
        inputs.pred_bboxes, inputs.targets.boxes, inputs.pairs, (box_weights[0], box_weights[1]), backend
    )
    labels, scores = _of_queries(inputs, boxes.iou)
    main, auxiliary = class_loss(inputs.pred_scores, labels, scores, classification, backend)
    return LayerLosses(main, boxes.bbox, boxes.giou, auxiliary, boxes.bbox_aux, boxes.giou_aux)


class LayerTerms(NamedTuple):
    """The losses of all layers, and their derivatives, for a caller that applies the chain rule itself.

    Attributes:
        losses: those of `LayerLosses`, in one tensor.
        class_slopes: derivative of the classification loss of each layer by its logits.
        bbox_slopes: derivative of the L1 loss of each layer by its boxes.
        giou_slopes: derivative of the GIoU loss of each layer by its boxes.
    """

    losses: Float[Tensor, "6"]
    class_slopes: Float[Tensor, "layers images queries classes"]
    bbox_slopes: Float[Tensor, "layers images queries 4"]
    giou_slopes: Float[Tensor, "layers images queries 4"]


def layer_terms(inputs: LayerInputs, configuration: Configuration) -> LayerTerms:
    """The same as `layer_losses`, without a graph."""
    boxes, scores = inputs.pred_bboxes, inputs.pred_scores
    classification, bbox_weight, giou_weight, backend = configuration
    terms = matched_terms(boxes, inputs.targets.boxes, inputs.pairs, backend)
    ones = scores.new_ones(len(scores))
    sums, slopes = backend.class_terms(scores, *_of_queries(inputs, terms.iou), classification, ones)
    assert slopes is not None  # noqa: S101  # for the type checker: factors were given
    of_layers = torch.stack([sums, terms.distance.sum(-1) * bbox_weight, terms.apart.sum(-1) * giou_weight])
    return LayerTerms(
        torch.cat([of_layers[:, -1], of_layers[:, :-1].sum(1)]),
        slopes,
        in_place_of_queries(terms.distance_slope * bbox_weight, inputs.pairs, boxes.shape).to(boxes.dtype),
        in_place_of_queries(terms.apart_slope * giou_weight, inputs.pairs, boxes.shape).to(boxes.dtype),
    )


def _of_queries(
    inputs: LayerInputs, iou: Float[Tensor, "layers pairs"]
) -> tuple[Int64[Tensor, "layers images queries"], Float[Tensor, "layers images queries"]]:
    """Class of each query's target, the number of classes for background; and its IoU, 0 for background."""
    layers, images, queries, classes = inputs.pred_scores.shape
    rows, gt_classes = inputs.pairs.rows, inputs.targets.classes
    shape = (layers, images * queries)
    labels = gt_classes.new_full(shape, classes).scatter_(1, rows, gt_classes[inputs.pairs.targets])
    scores = iou.new_zeros(shape).scatter_(1, rows, iou)
    return labels.view(layers, images, queries), scores.view(layers, images, queries)
