"""The two box losses of all layers as one differentiable function with a closed-form derivative."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from detr_conformance.optimized.backends import Backend
from detr_conformance.optimized.boxes import PairTerms
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.targets import Pairs


class BoxLosses(NamedTuple):
    """Weighted box losses of the last layer and summed over the others, and the IoU of every pair, a constant."""

    bbox: Float[Tensor, ""]
    bbox_aux: Float[Tensor, ""]
    giou: Float[Tensor, ""]
    giou_aux: Float[Tensor, ""]
    iou: Float[Tensor, "layers pairs"]


def box_losses(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    gt_bboxes: Float[Tensor, "targets 4"],
    pairs: Pairs,
    weights: tuple[Weight, Weight],
    backend: Backend,
) -> BoxLosses:
    """The box losses of the matched pairs.

        bbox = weight_bbox sum |b - b'|,   giou = weight_giou sum (1 - GIoU(b, b'))

    Without a pair they are 0, and still connected to the graph of the predictions: a data-parallel trainer must not
    take the box head for unused.

    Args:
        pred_bboxes: b, centre form, the main layer last.
        gt_bboxes: b', in the dtype of the arithmetic.
        pairs: which belongs to which, a row for each layer.
        weights: of the two.
        backend: what computes it.
    """
    return BoxLosses(*_BoxLosses.apply(pred_bboxes, gt_bboxes, pairs, weights, backend))  # type: ignore[no-untyped-call]


def matched_terms(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    gt_bboxes: Float[Tensor, "targets 4"],
    pairs: Pairs,
    backend: Backend,
) -> PairTerms:
    """What each matched pair contributes to the box losses."""
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    return backend.pair_terms(pred_bboxes.flatten(1, 2).gather(1, rows).to(gt_bboxes.dtype), gt_bboxes[pairs.targets])


def in_place_of_queries(
    slopes: Float[Tensor, "layers pairs 4"], pairs: Pairs, shape: torch.Size
) -> Float[Tensor, "layers images queries 4"]:
    """The derivative by all predicted boxes, of which `slopes` is that by the matched ones."""
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    layers, images, queries, _ = shape
    return slopes.new_zeros(layers, images * queries, 4).scatter_add_(1, rows, slopes).view(shape)


class _BoxLosses(torch.autograd.Function):
    """Values and derivatives of the pairs in one go; the backward pass weighs the derivatives and scatters them."""

    @staticmethod
    def forward(
        ctx: Any,
        pred_bboxes: Tensor,
        gt_bboxes: Tensor,
        pairs: Pairs,
        weights: tuple[Weight, Weight],
        backend: Backend,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        terms = matched_terms(pred_bboxes, gt_bboxes, pairs, backend)
        bbox, giou = terms.distance.sum(-1) * weights[0], terms.apart.sum(-1) * weights[1]
        ctx.shape, ctx.dtype, ctx.weights, ctx.pairs = pred_bboxes.shape, pred_bboxes.dtype, weights, pairs
        ctx.save_for_backward(terms.distance_slope, terms.apart_slope)
        ctx.mark_non_differentiable(terms.iou)
        ctx.set_materialize_grads(False)
        return bbox[-1].clone(), bbox[:-1].sum(), giou[-1].clone(), giou[:-1].sum(), terms.iou

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        of_bbox: Tensor | None,
        of_bbox_aux: Tensor | None,
        of_giou: Tensor | None,
        of_giou_aux: Tensor | None,
        _: None,
    ) -> tuple[Tensor, None, None, None, None]:
        by_distance, by_apart = ctx.saved_tensors
        slopes = torch.zeros_like(by_distance)
        for slope, weight, main, auxiliary in (
            (by_distance, ctx.weights[0], of_bbox, of_bbox_aux),
            (by_apart, ctx.weights[1], of_giou, of_giou_aux),
        ):
            if main is not None:
                slopes[-1].addcmul_(slope[-1], main * weight)
            if auxiliary is not None:
                slopes[:-1].addcmul_(slope[:-1], auxiliary * weight)
        return in_place_of_queries(slopes, ctx.pairs, ctx.shape).to(ctx.dtype), None, None, None, None
