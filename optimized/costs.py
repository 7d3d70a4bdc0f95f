"""Matching costs in plain torch: each target against the queries of its own image, in blocks that stay in the cache."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.boxes import IOU_EPS
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

PROBABILITY_EPS = 1e-8
"""Keeps the logarithms of the class cost finite."""

BLOCK = 1 << 17
"""Costs computed at once; some fifteen arrays of this size are in memory meanwhile."""


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
    of_queries = _components(pred_bboxes.to(dtype).flatten(0, 1))
    of_targets = [each.repeat(layers, 1) for each in _components(targets.boxes[:, None])]

    each = max(1, BLOCK // queries)
    for start in range(0, len(total), each):
        rows = slice(start, start + each)
        cost, sources = total[rows], image_of_row[rows]
        cost.copy_(logits[rows])
        if log_sums is None:
            _focal_costs(cost, options)
        else:
            cost.sub_(log_sums[sources]).exp_().mul_(-options.class_gain)
        pairs = [(mine.index_select(0, sources), its[rows]) for mine, its in zip(of_queries, of_targets, strict=True)]
        _add_box_costs(pairs, options, cost)
    return total.view(layers, -1, queries)


def log_sums_of(logits: Float[Tensor, "layers images queries classes"]) -> Float[Tensor, "layers images queries"]:
    """Logarithm of what softmax divides by; NaN where a logit is infinite, for there softmax is NaN in every class."""
    log_sums = logits.logsumexp(-1)
    return log_sums.masked_fill_(log_sums.isposinf(), torch.nan)


class _LogitsOfTargets:
    """The logits of each target's class: a row for each target in each layer, a column for each query of its image.

    They lie scattered in memory. `take` finds them by their address, which is four times as fast as indexing by layer,
    image, query and class, and needs no copy of logits that are a view of a larger tensor.
    """

    def __init__(self, pred_scores: Float[Tensor, "layers images queries classes"], targets: Targets) -> None:
        per_layer, per_image, per_query, per_class = pred_scores.stride()
        layers, _, queries, _ = pred_scores.shape
        extent = sum((size - 1) * stride for size, stride in zip(pred_scores.shape, pred_scores.stride(), strict=True))
        self.memory = pred_scores.as_strided((extent + 1,), (1,))
        in_layer = targets.images * per_image + targets.classes * per_class
        self.rows = (torch.arange(layers)[:, None] * per_layer + in_layer).view(-1, 1)
        self.columns = torch.arange(queries) * per_query

    def __getitem__(self, rows: slice) -> Float[Tensor, "rows queries"]:
        return torch.take(self.memory, self.rows[rows] + self.columns)


def _focal_costs(cost: Float[Tensor, "rows queries"], options: CostOptions) -> None:
    """Turn logits into focal class costs, in place."""
    p = torch.sigmoid(cost)
    rest = torch.sigmoid(-cost)  # 1 - p would have lost its digits where p is near 1
    positive = torch.log(p + PROBABILITY_EPS).mul_(rest**options.gamma)
    negative = rest.add_(PROBABILITY_EPS).log_().mul_(p.pow_(options.gamma))
    torch.mul(positive, -options.alpha * options.class_gain, out=cost)
    cost.add_(negative, alpha=(1 - options.alpha) * options.class_gain)


Components = list[Float[Tensor, "rows columns"]]


def _components(boxes: Float[Tensor, "rows columns 4"]) -> Components:
    """Centre x, centre y, width, height, left, top, right, bottom and area, each a plane of its own."""
    x, y, width, height = (each.contiguous() for each in boxes.unbind(-1))
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return [x, y, width, height, left, top, right, bottom, width * height]


def _add_box_costs(
    pairs: list[tuple[Float[Tensor, "rows queries"], Float[Tensor, "rows 1"]]],
    options: CostOptions,
    cost: Float[Tensor, "rows queries"],
) -> None:
    """Add the weighted L1 and GIoU terms, by 1 - GIoU = 2 - inter / union - union / hull.

    Args:
        pairs: each component of the boxes of queries and targets.
        options: the weights.
        cost: where they are added.
    """
    x, y, width, height, left, top, right, bottom, area = pairs
    meeting_x, around_x = _shared_and_enclosing(left, right, width)
    meeting_y, around_y = _shared_and_enclosing(top, bottom, height)
    inter = meeting_x.clamp_(min=0).mul_(meeting_y.clamp_(min=0))
    union = area[0].add_(area[1]).sub_(inter).add_(IOU_EPS)
    hull = around_x.mul_(around_y).add_(IOU_EPS)
    cost.add_(2 * options.giou_gain)
    cost.sub_(inter.div_(union), alpha=options.giou_gain)
    cost.sub_(union.div_(hull), alpha=options.giou_gain)
    for mine, its in (x, y, width, height):
        cost.add_(mine.sub_(its).abs_(), alpha=options.bbox_gain)


def _shared_and_enclosing(
    low: tuple[Tensor, Tensor], high: tuple[Tensor, Tensor], size: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, "rows queries"], Float[Tensor, "rows queries"]]:
    """Extent of the intersection, negative where there is none, and of the hull, along one axis.

    max(a, b) + min(a, b) = a + b, so the two add up to the extents of the two boxes.
    """
    shared = torch.minimum(*high).sub_(torch.maximum(*low))
    return shared, (size[0] + size[1]).sub_(shared)
