"""The losses of all layers of one set of queries, given who answers for which target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends import Backend
from detr_conformance.optimized.box_loss import box_losses
from detr_conformance.optimized.class_loss import class_loss
from detr_conformance.optimized.options import ClassOptions, Weight
from detr_conformance.optimized.targets import Pairs, Targets


class LayerLosses(NamedTuple):
    """Each loss of the last layer, and summed over the others."""

    cls: Float[Tensor, ""]
    bbox: Float[Tensor, ""]
    giou: Float[Tensor, ""]
    cls_aux: Float[Tensor, ""]
    bbox_aux: Float[Tensor, ""]
    giou_aux: Float[Tensor, ""]


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


def layer_losses(
    inputs: LayerInputs,
    class_options: ClassOptions,
    box_weights: tuple[Weight, Weight],
    backend: Backend,
) -> LayerLosses:
    """All losses of all layers.

    Args:
        inputs: predictions and pairs.
        class_options: the classification loss and its weights.
        box_weights: of the L1 and of the GIoU loss.
        backend: what computes them.
    """
    pred_bboxes, pred_scores, targets, pairs = inputs
    layers, images, queries, classes = pred_scores.shape
    boxes = box_losses(pred_bboxes, targets.boxes, pairs, box_weights, backend)
    shape = (layers, images * queries)
    labels = targets.classes.new_full(shape, classes).scatter_(1, pairs.rows, targets.classes[pairs.targets])
    scores = boxes.iou.new_zeros(shape).scatter_(1, pairs.rows, boxes.iou)
    of_queries = (layers, images, queries)
    main, auxiliary = class_loss(pred_scores, labels.view(of_queries), scores.view(of_queries), class_options, backend)
    return LayerLosses(main, boxes.bbox, boxes.giou, auxiliary, boxes.bbox_aux, boxes.giou_aux)
