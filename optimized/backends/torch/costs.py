"""Matching costs in plain torch: each target against the queries of its own image, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.torch.class_costs import class_costs
from detr_conformance.optimized.backends.torch.scratch import scratch
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

BLOCK = 1 << 17
"""Costs computed at once. With fewer torch's threads wait for each other after every operation."""

PLANES = 7
"""Numbers for each cost that are in memory meanwhile."""


def costs(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    options: CostOptions,
) -> Float[Tensor, "layers targets queries"]:
    """What it would cost to let each query of the target's own image answer for it, in every layer.

        cost = gain_class class + gain_bbox sum|b - b'| + gain_giou (1 - GIoU(b, b'))
        class = alpha (1 - p)^gamma (-log(p + 1e-8)) - (1 - alpha) p^gamma (-log(1 - p + 1e-8))     with `use_fl`
              = -softmax(logits)[class of the target]                                               otherwise

    A target meets only the queries of its own image, so nothing is computed that is not needed, and the costs of an
    image are consecutive rows: no padding, whatever the counts.

    Args:
        pred_bboxes: predicted boxes in centre form.
        pred_scores: logits.
        targets: of all images.
        options: gains, and the form of the class cost.

    Returns:
        The costs in the dtype of the arithmetic; where a prediction is not finite, they need not be either.
    """
    layers, images, queries, _ = pred_scores.shape
    dtype, device = targets.boxes.dtype, pred_scores.device
    total = torch.empty((layers * len(targets.classes), queries), dtype=dtype, device=device)
    layer = torch.arange(layers, device=device)[:, None]
    image_of_row = (layer * images + targets.images).view(-1)  # images are counted through the layers
    of_classes = class_costs(pred_scores, targets, image_of_row, options, BLOCK)
    of_queries = [each.contiguous() for each in _centres_and_halves(pred_bboxes.to(dtype).flatten(0, 1))]
    of_targets = torch.stack(_centres_and_halves(targets.boxes), -1).repeat(layers, 1)

    for rows in _blocks(total):
        cost = total[rows]
        of_classes.write(rows, cost)
        planes = scratch(device, *[(tuple(cost.shape), dtype)] * PLANES)
        for component, plane in zip(of_queries, planes, strict=False):
            torch.index_select(component, 0, image_of_row[rows], out=plane)
        _add_box_costs(cost, planes, of_targets[rows], options)
    return total.view(layers, -1, queries)


def _blocks(costs: Float[Tensor, "rows queries"]) -> Iterator[slice]:
    """Rows that are computed at once."""
    height = max(1, BLOCK // costs.shape[1])
    return (slice(start, start + height) for start in range(0, len(costs), height))


def _centres_and_halves(boxes: Float[Tensor, "*batch 4"]) -> list[Float[Tensor, "*batch"]]:
    """Centres and half the sizes of boxes, x before y."""
    x, y, width, height = boxes.unbind(-1)
    return [x, y, width / 2, height / 2]


def _add_box_costs(
    cost: Float[Tensor, "rows queries"],
    planes: Sequence[Tensor],
    targets: Float[Tensor, "rows 4"],
    options: CostOptions,
) -> None:
    """Add the weighted L1 and GIoU terms, by 1 - GIoU = 2 - inter / union - union / hull.

    Args:
        cost: where they are added.
        planes: the first four hold the boxes of the queries: centres, and half the sizes.
        targets: the boxes that they are compared with, likewise.
        options: the weights.
    """
    x, y, half_width, half_height, around_x, around_y, union = planes
    its_x, its_y, its_half_width, its_half_height = targets.unsqueeze(1).unbind(-1)
    torch.mul(half_width, half_height, out=union)
    torch.add(its_half_width * its_half_height * 4 + options.eps, union, alpha=4, out=union)  # of both, counted twice
    _compare(cost, (x, half_width), (its_x, its_half_width), around_x, options)
    _compare(cost, (y, half_height), (its_y, its_half_height), around_y, options)
    inter = half_width.clamp_(min=0).mul_(half_height.clamp_(min=0))
    union.sub_(inter)
    hull = around_x.mul_(around_y).add_(options.eps)
    cost.add_(2 * options.giou_gain)
    cost.addcdiv_(inter, union, value=-options.giou_gain)
    cost.addcdiv_(union, hull, value=-options.giou_gain)


Interval = tuple[Float[Tensor, "rows #queries"], Float[Tensor, "rows #queries"]]
"""Centre and half the size along one axis."""


def _compare(cost: Tensor, mine: Interval, its: Interval, around: Tensor, options: CostOptions) -> None:
    """Add the weighted L1 distance of intervals to the costs; their overlap takes the place of half the sizes.

    With m = max(|c - c'|, |h - h'|) they have h + h' - m in common, negative where there is a gap, and extend over
    h + h' + m: the same as by their edges, also for a size below 0, and without the rounding of edges.

    Args:
        cost: where the distance is added.
        mine: of the queries; both are overwritten, the second by the overlap.
        its: of the targets.
        around: memory for the extent of the two together.
        options: the weights.
    """
    centres, halves = mine
    torch.add(halves, its[1], out=around)
    cost.add_(centres.sub_(its[0]).abs_(), alpha=options.bbox_gain)
    cost.add_(halves.sub_(its[1]).abs_(), alpha=2 * options.bbox_gain)
    apart = torch.maximum(centres, halves, out=centres)
    torch.sub(around, apart, out=halves)
    around.add_(apart)
