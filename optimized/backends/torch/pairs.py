"""What the matched pairs contribute, in plain torch: box terms, and labels and scores for the classification."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from detr_conformance.optimized.options import IOU_EPS
from detr_conformance.optimized.targets import Pairs, Targets


class MatchedTerms(NamedTuple):
    """What the matched pairs of every layer contribute, before any weight.

    Attributes:
        distance: adds up, in each row, to sum |b - b'| of the layer.
        apart: adds up, in each row, to sum (1 - GIoU(b, b')) of the layer.
        grad_distance: derivative of the first with respect to the predicted box of each pair.
        grad_apart: derivative of the second.
        labels: class of each query's target; the number of classes for background.
        scores: IoU of each query with its target; it means nothing for background.
    """

    distance: Float[Tensor, "layers parts"]
    apart: Float[Tensor, "layers parts"]
    grad_distance: Float[Tensor, "layers pairs 4"]
    grad_apart: Float[Tensor, "layers pairs 4"]
    labels: Integer[Tensor, "layers images queries"]
    scores: Float[Tensor, "layers images queries"]


def matched_terms(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    targets: Targets,
    pairs: Pairs,
    classes: int,
    eps: float = IOU_EPS,
) -> MatchedTerms:
    """The terms of all pairs, see `pair_terms`, and which queries they label.

    Args:
        pred_bboxes: predicted boxes in centre form.
        targets: of all images.
        pairs: which belongs to which, a row for each layer. A query has one target.
        classes: how many there are.
        eps: see `pair_terms`.
    """
    layers, images, queries, _ = pred_bboxes.shape
    rows = pairs.rows[..., None].expand(-1, -1, 4)
    pred = pred_bboxes.flatten(1, 2).gather(1, rows).to(targets.boxes.dtype)
    terms = pair_terms(pred, targets.boxes[pairs.targets], eps)
    shape = (layers, images * queries)
    labels = targets.classes.new_full(shape, classes).scatter_(1, pairs.rows, targets.classes[pairs.targets])
    scores = terms.iou.new_zeros(shape).scatter_(1, pairs.rows, terms.iou)
    return MatchedTerms(
        terms.distance, terms.apart, terms.grad_distance, terms.grad_apart,
        labels.view(layers, images, queries), scores.view(layers, images, queries),
    )  # fmt: skip


class PairTerms(NamedTuple):
    """What a matched pair of boxes contributes, before any weight.

    Attributes:
        distance: sum of |differences| of the four numbers.
        apart: 1 - GIoU.
        iou: IoU.
        grad_distance: derivative of `distance` with respect to the predicted box.
        grad_apart: derivative of `apart` with respect to the predicted box.
    """

    distance: Float[Tensor, "layers pairs"]
    apart: Float[Tensor, "layers pairs"]
    iou: Float[Tensor, "layers pairs"]
    grad_distance: Float[Tensor, "layers pairs 4"]
    grad_apart: Float[Tensor, "layers pairs 4"]


def pair_terms(
    pred: Float[Tensor, "layers pairs 4"], target: Float[Tensor, "layers pairs 4"], eps: float = IOU_EPS
) -> PairTerms:
    """L1 distance, GIoU and IoU of matched boxes, with the derivatives with respect to the prediction in closed form.

    With U, H and I the areas of union, hull and intersection and A = w h the predicted box's own,

        1 - GIoU = 2 - I / U - U / H,   dU = dA - dI
        d(1 - GIoU) = dI (1 / H - 1 / U - I / U^2) + dA (I / U^2 - 1 / H) + dH U / H^2

    An edge of the prediction moves I where it bounds the intersection, and H where it bounds the hull. What the
    derivative is where edges coincide is left open.

    Args:
        pred: predicted boxes, centre form, in the dtype of the arithmetic.
        target: their targets.
        eps: added to the areas of union and hull.

    Reference: Rezatofighi et al., arXiv 1902.09630, algorithm 2; the derivative follows by the quotient rule.
    """
    # Coordinates first: each is then a plane in memory, and what is done to it one loop.
    (centre, size), (target_centre, target_size) = (
        each.movedim(-1, 0).contiguous().split_with_sizes([2, 2]) for each in (pred, target)
    )
    low, high = centre - size / 2, centre + size / 2
    target_low, target_high = target_centre - target_size / 2, target_centre + target_size / 2
    meeting = torch.minimum(high, target_high) - torch.maximum(low, target_low)
    shared, around = meeting.clamp(min=0), torch.maximum(high, target_high) - torch.minimum(low, target_low)
    inter = shared[0] * shared[1]
    union = _area(high - low) + _area(target_high - target_low) - inter + eps
    hull = _area(around) + eps
    iou = inter / union

    by_inter, by_area = 1 / hull - (1 + iou) / union, iou / union - 1 / hull
    along_shared = by_inter * shared.flip(0) * (meeting > 0)  # a side of an area times the other side is its derivative
    along_around = union / hull.square() * around.flip(0)
    by_low = -along_shared * (low > target_low) - along_around * (low < target_low)
    by_high = along_shared * (high < target_high) + along_around * (high > target_high)
    by_size = (by_high - by_low) / 2 + by_area * (high - low).flip(0)
    difference = pred - target
    return PairTerms(
        distance=difference.abs().sum(-1),
        apart=1 - iou + (hull - union) / hull,
        iou=iou,
        grad_distance=difference.sign(),
        grad_apart=torch.cat([by_low + by_high, by_size]).movedim(0, -1),
    )


def _area(sides: Float[Tensor, "2 layers pairs"]) -> Float[Tensor, "layers pairs"]:
    return sides[0] * sides[1]
