"""`torch.pairs.matched_terms`, pair by pair, in float64."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.native.jit import as_array, compiled
from detr_conformance.optimized.backends.torch import pairs as plain
from detr_conformance.optimized.backends.torch.pairs import MatchedTerms
from detr_conformance.optimized.options import IOU_EPS
from detr_conformance.optimized.targets import Pairs, Targets


def matched_terms(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    targets: Targets,
    pairs: Pairs,
    classes: int,
    eps: float = IOU_EPS,
) -> MatchedTerms:
    """See `torch.pairs`; float64 goes that way."""
    if targets.boxes.dtype is torch.float64:
        return plain.matched_terms(pred_bboxes, targets, pairs, classes, eps)
    layers, images, queries, _ = pred_bboxes.shape
    sums, grads = (torch.empty(2, layers, *shape, dtype=torch.float32) for shape in ((), (pairs.count, 4)))
    labels = torch.full((layers, images, queries), classes, dtype=torch.int64)
    scores = torch.zeros(labels.shape, dtype=torch.float32)
    _layers(
        as_array(pred_bboxes.float()).reshape(layers, -1, 4),
        *map(as_array, (targets.boxes, targets.classes, pairs.rows, pairs.targets)),
        sums.numpy(), grads.numpy(), labels.view(layers, -1).numpy(), scores.view(layers, -1).numpy(), eps,
    )  # fmt: skip
    return MatchedTerms(sums[0, :, None], sums[1, :, None], grads[0], grads[1], labels, scores)


@compiled
@no_type_check
def _layers(pred_bboxes, gt_bboxes, gt_cls, rows, targets, sums, grads, labels, scores, eps):
    """All pairs of all layers."""
    grad = np.empty(4)
    for layer in range(len(pred_bboxes)):
        distance, apart = 0.0, 0.0
        for pair in range(rows.shape[1]):
            row, target = rows[layer, pair], targets[layer, pair]
            box, wanted = pred_bboxes[layer, row], gt_bboxes[target]
            for number in range(4):
                difference = np.float64(box[number]) - wanted[number]
                distance += abs(difference)
                grads[0, layer, pair, number] = (difference > 0) * 1.0 - (difference < 0) * 1.0  # of NaN 0, as in torch
            of_pair, iou = _apart(box, wanted, grad, eps)
            apart += of_pair
            for number in range(4):
                grads[1, layer, pair, number] = grad[number]
            labels[layer, row], scores[layer, row] = gt_cls[target], iou
        sums[0, layer], sums[1, layer] = distance, apart


@compiled
@no_type_check
def _apart(box, target, grad, eps):
    """1 - GIoU, IoU, and the derivative of the first with respect to the box; see `torch.pairs.pair_terms`."""
    width, meeting_x, around_x, low_x, high_x, of_low_x, of_high_x = _along(box[0], box[2], target[0], target[2])
    height, meeting_y, around_y, low_y, high_y, of_low_y, of_high_y = _along(box[1], box[3], target[1], target[3])
    shared_x, shared_y = _larger(0.0, meeting_x), _larger(0.0, meeting_y)
    inter = shared_x * shared_y
    union = width * height + np.float64(target[2]) * target[3] - inter + eps
    hull = around_x * around_y + eps
    iou = inter / union
    by_inter, by_area, by_hull = 1 / hull - (1 + iou) / union, iou / union - 1 / hull, union / (hull * hull)
    along_x, along_y = by_inter * shared_y * (meeting_x > 0), by_inter * shared_x * (meeting_y > 0)
    grad_low_x, grad_high_x = (
        -along_x * low_x - by_hull * around_y * of_low_x,
        along_x * high_x + by_hull * around_y * of_high_x,
    )
    grad_low_y, grad_high_y = (
        -along_y * low_y - by_hull * around_x * of_low_y,
        along_y * high_y + by_hull * around_x * of_high_y,
    )
    grad[0], grad[1] = grad_low_x + grad_high_x, grad_low_y + grad_high_y
    grad[2] = (grad_high_x - grad_low_x) / 2 + by_area * height
    grad[3] = (grad_high_y - grad_low_y) / 2 + by_area * width
    return 1 - iou + (hull - union) / hull, iou


@compiled
@no_type_check
def _along(centre, size, target_centre, target_size):
    """Along one axis: the size of the first, what the two have in common and extend over, and which edge bounds that.

    The size is the distance of the edges, which of a box at infinity is NaN. The last four are whether its low and its
    high edge bounds what they have in common, and likewise what they extend over.
    """
    half, its_half = np.float64(size) / 2, np.float64(target_size) / 2  # numba's float() leaves float32 as it is
    low, high, its_low, its_high = centre - half, centre + half, target_centre - its_half, target_centre + its_half
    meeting = _smaller(its_high, high) - _larger(its_low, low)
    around = _larger(its_high, high) - _smaller(its_low, low)
    return high - low, meeting, around, low > its_low, high < its_high, low < its_low, high > its_high


@compiled
@no_type_check
def _larger(known, other):
    """The larger of two numbers of which the second may be NaN, and is the result then."""
    return max(other, known)


@compiled
@no_type_check
def _smaller(known, other):
    """The smaller one, likewise."""
    return min(other, known)
