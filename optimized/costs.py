"""Matching costs in plain torch: each target against the queries of its own image, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.boxes import IOU_EPS
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.scratch import scratch
from detr_conformance.optimized.targets import Targets

PROBABILITY_EPS = 1e-8
"""Keeps the logarithms of the class cost finite."""

BLOCK = 1 << 17
"""Costs computed at once. With fewer torch's threads wait for each other after every operation."""

PLANES = 10
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
    logits = _LogitsOfTargets(pred_scores, targets)
    log_sums = None if options.use_fl else log_sums_of(pred_scores.to(dtype)).flatten(0, 1)
    of_queries = [each.contiguous() for each in pred_bboxes.to(dtype).flatten(0, 1).unbind(-1)]
    of_targets = targets.boxes.repeat(layers, 1)

    height = max(1, BLOCK // queries)
    for start in range(0, len(total), height):
        rows = slice(start, start + height)
        cost, sources = total[rows], image_of_row[rows]
        dtypes = (torch.int64, pred_scores.dtype, *[dtype] * PLANES)
        addresses, found, *planes = scratch(device, *((tuple(cost.shape), own) for own in dtypes))
        cost.copy_(logits.read(rows, addresses, found))
        if log_sums is None:
            _focal_costs(cost, planes, options)
        else:
            cost.sub_(log_sums[sources]).exp_().mul_(-options.class_gain)
        for component, plane in zip(of_queries, planes, strict=False):
            torch.index_select(component, 0, sources, out=plane)
        _add_box_costs(cost, planes, of_targets[rows], options)
    return total.view(layers, -1, queries)


def log_sums_of(logits: Float[Tensor, "layers images queries classes"]) -> Float[Tensor, "layers images queries"]:
    """Logarithm of what softmax divides by; NaN where a logit is infinite, for there softmax is NaN in every class."""
    log_sums = logits.logsumexp(-1)
    return log_sums.masked_fill_(log_sums.isposinf(), torch.nan)


class _LogitsOfTargets:
    """The logits of each target's class: a row for each target in each layer, a column for each query of its image.

    They lie scattered in memory. Looking them up by their address is six times as fast as by layer, image, query and
    class, and needs no copy of logits that are a view of a larger tensor.
    """

    def __init__(self, pred_scores: Float[Tensor, "layers images queries classes"], targets: Targets) -> None:
        per_layer, per_image, per_query, per_class = pred_scores.stride()
        (layers, _, queries, _), device = pred_scores.shape, pred_scores.device
        extent = sum((size - 1) * stride for size, stride in zip(pred_scores.shape, pred_scores.stride(), strict=True))
        self.memory = pred_scores.as_strided((extent + 1,), (1,))
        in_layer = targets.images * per_image + targets.classes * per_class
        self.rows = (torch.arange(layers, device=device)[:, None] * per_layer + in_layer).view(-1, 1)
        self.columns = torch.arange(queries, device=device) * per_query

    def read(
        self, rows: slice, addresses: Int64[Tensor, "rows queries"], out: Float[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries"]:
        """Some of the rows, in `out`; their addresses are left in `addresses`."""
        torch.add(self.rows[rows], self.columns, out=addresses)
        torch.index_select(self.memory, 0, addresses.view(-1), out=out.view(-1))
        return out


Planes = Sequence[Float[Tensor, "rows queries"]]
"""Memory to compute in."""


def _focal_costs(cost: Float[Tensor, "rows queries"], planes: Planes, options: CostOptions) -> None:
    """Turn logits into focal class costs, in place."""
    p, rest, faded = planes[:3]
    torch.sigmoid(cost, out=p)
    torch.neg(cost, out=rest).sigmoid_()  # 1 - p would have lost its digits where p is near 1
    torch.add(p, PROBABILITY_EPS, out=cost).log_()
    torch.pow(rest, options.gamma, out=faded)
    cost.mul_(faded).mul_(-options.alpha * options.class_gain)
    torch.pow(p, options.gamma, out=faded)
    rest.add_(PROBABILITY_EPS).log_().mul_(faded)
    cost.add_(rest, alpha=(1 - options.alpha) * options.class_gain)


def _add_box_costs(
    cost: Float[Tensor, "rows queries"], planes: Planes, targets: Float[Tensor, "rows 4"], options: CostOptions
) -> None:
    """Add the weighted L1 and GIoU terms, by 1 - GIoU = 2 - inter / union - union / hull.

    Args:
        cost: where they are added.
        planes: the first four hold the boxes of the queries, centre form.
        targets: the boxes that they are compared with, centre form.
        options: the weights.
    """
    x, y, width, height, *edges, shared_x, around_x, shared_y, around_y = planes
    its_x, its_y, its_width, its_height = targets.unsqueeze(1).unbind(-1)
    _share_and_enclose((x, width), (its_x, its_width), edges, shared_x, around_x)
    _share_and_enclose((y, height), (its_y, its_height), edges, shared_y, around_y)
    inter = shared_x.clamp_(min=0).mul_(shared_y.clamp_(min=0))
    area = torch.mul(width, height, out=edges[0])
    union = area.add_(its_width * its_height).sub_(inter).add_(IOU_EPS)
    hull = around_x.mul_(around_y).add_(IOU_EPS)
    cost.add_(2 * options.giou_gain)
    cost.sub_(inter.div_(union), alpha=options.giou_gain)
    cost.sub_(union.div_(hull), alpha=options.giou_gain)
    for mine, its in ((x, its_x), (y, its_y), (width, its_width), (height, its_height)):
        cost.add_(mine.sub_(its).abs_(), alpha=options.bbox_gain)


Interval = tuple[Float[Tensor, "rows #queries"], Float[Tensor, "rows #queries"]]
"""Centre and size along one axis."""


def _share_and_enclose(mine: Interval, its: Interval, edges: Planes, shared: Tensor, around: Tensor) -> None:
    """Extent of the intersection, negative where there is none, and of the hull, along one axis, each to its plane.

    Not the hull by max(a, b) + min(a, b) = a + b: where a box has no extent, rounding would leave it one.
    """
    low, inner = edges
    torch.sub(*mine, alpha=0.5, out=low)
    torch.add(*mine, alpha=0.5, out=around)
    its_low, its_high = its[0] - its[1] / 2, its[0] + its[1] / 2
    torch.minimum(around, its_high, out=shared).sub_(torch.maximum(low, its_low, out=inner))
    torch.maximum(around, its_high, out=around).sub_(torch.minimum(low, its_low, out=low))
