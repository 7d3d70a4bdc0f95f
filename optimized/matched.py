"""What the matched pairs contribute, in plain torch: box terms, and labels and scores for the classification."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from detr_conformance.optimized.boxes import pair_terms
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.targets import Pairs, Targets


class MatchedTerms(NamedTuple):
    """What the matched pairs of every layer contribute, before any weight.

    Attributes:
        distance: adds up, in each row, to sum |b - b'| of the layer.
        apart: adds up, in each row, to sum (1 - GIoU(b, b')) of the layer.
        distance_slope: derivative of the first with respect to the predicted box of each pair.
        apart_slope: derivative of the second.
        labels: class of each query's target; the number of classes for background.
        scores: IoU of each query with its target; it means nothing for background.
    """

    distance: Float[Tensor, "layers parts"]
    apart: Float[Tensor, "layers parts"]
    distance_slope: Float[Tensor, "layers pairs 4"]
    apart_slope: Float[Tensor, "layers pairs 4"]
    labels: Integer[Tensor, "layers images queries"]
    scores: Float[Tensor, "layers images queries"]


def matched_terms(
    pred_bboxes: Float[Tensor, "layers images queries 4"], targets: Targets, pairs: Pairs, classes: int
) -> MatchedTerms:
    """The terms of all pairs, see `boxes.pair_terms`, and which queries they label.

    Args:
        pred_bboxes: predicted boxes in centre form.
        targets: of all images.
        pairs: which belongs to which, a row for each layer. A query has one target.
        classes: how many there are.
    """
    layers, images, queries, _ = pred_bboxes.shape
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    pred = pred_bboxes.flatten(1, 2).gather(1, rows).to(targets.boxes.dtype)
    terms = pair_terms(pred, targets.boxes[pairs.targets])
    shape = (layers, images * queries)
    labels = targets.classes.new_full(shape, classes).scatter_(1, pairs.rows, targets.classes[pairs.targets])
    scores = terms.iou.new_zeros(shape).scatter_(1, pairs.rows, terms.iou)
    return MatchedTerms(
        terms.distance, terms.apart, terms.distance_slope, terms.apart_slope,
        labels.view(layers, images, queries), scores.view(layers, images, queries),
    )  # fmt: skip


class OfBoxLosses(NamedTuple):
    """What arrives in a backward pass at the box losses; None: nobody asked for that one's derivative."""

    bbox: Float[Tensor, ""] | None
    giou: Float[Tensor, ""] | None
    bbox_aux: Float[Tensor, ""] | None
    giou_aux: Float[Tensor, ""] | None


def box_slopes(
    distance_slope: Float[Tensor, "layers pairs 4"],
    apart_slope: Float[Tensor, "layers pairs 4"],
    weights: tuple[Weight, Weight],
    arriving: OfBoxLosses,
    pairs: Pairs,
    shape: torch.Size,
    dtype: torch.dtype,
) -> Float[Tensor, "layers images queries 4"]:
    """Derivative of the box losses with respect to all predicted boxes; 0 for those without a pair.

    Args:
        distance_slope: see `MatchedTerms`.
        apart_slope: see `MatchedTerms`.
        weights: of the L1 and of the GIoU loss.
        arriving: what each of their sums is to be multiplied with.
        pairs: see `matched_terms`.
        shape: of the predicted boxes.
        dtype: of the predicted boxes.
    """
    slopes = torch.zeros_like(distance_slope)
    for slope, weight, main, auxiliary in (
        (distance_slope, weights[0], arriving.bbox, arriving.bbox_aux),
        (apart_slope, weights[1], arriving.giou, arriving.giou_aux),
    ):
        if main is not None:
            slopes[-1].addcmul_(slope[-1], main * weight)
        if auxiliary is not None:
            slopes[:-1].addcmul_(slope[:-1], auxiliary * weight)
    return in_place_of_queries(slopes, pairs, shape, dtype)


def in_place_of_queries(
    slopes: Float[Tensor, "layers pairs 4"], pairs: Pairs, shape: torch.Size, dtype: torch.dtype
) -> Float[Tensor, "layers images queries 4"]:
    """The derivative with respect to all predicted boxes, of which `slopes` is that to the matched ones."""
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    layers, images, queries, _ = shape
    return slopes.new_zeros(layers, images * queries, 4).scatter_add_(1, rows, slopes).view(shape).to(dtype)
