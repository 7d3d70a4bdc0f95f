"""Matching costs in plain torch: each target against the queries of its own image, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    class_costs = _class_costs(pred_scores, targets, image_of_row, options)
    of_queries = [each.contiguous() for each in _centres_and_halves(pred_bboxes.to(dtype).flatten(0, 1))]
    of_targets = torch.stack(_centres_and_halves(targets.boxes), -1).repeat(layers, 1)

    for rows in _blocks(total):
        cost = total[rows]
        class_costs.write(rows, cost)
        planes = scratch(device, *[(tuple(cost.shape), dtype)] * PLANES)
        for component, plane in zip(of_queries, planes, strict=False):
            torch.index_select(component, 0, image_of_row[rows], out=plane)
        _add_box_costs(cost, planes, of_targets[rows], options)
    return total.view(layers, -1, queries)


def _blocks(costs: Float[Tensor, "rows queries"]) -> Iterator[slice]:
    """Rows that are computed at once."""
    height = max(1, BLOCK // costs.shape[1])
    return (slice(start, start + height) for start in range(0, len(costs), height))


def log_sums_of(logits: Float[Tensor, "layers images queries classes"]) -> Float[Tensor, "layers images queries"]:
    """Logarithm of what softmax divides by; NaN where a logit is infinite, for there softmax is NaN in every class."""
    log_sums = logits.logsumexp(-1)
    return log_sums.masked_fill_(log_sums.isposinf(), torch.nan)


class _ClassCosts:
    """Class costs of every layer: a row for each of a list of images and classes, a column for each query of the image.

    The logits lie scattered in memory. Looking them up by their address is six times as fast as by layer, image, query
    and class, and needs no copy of logits that are a view of a larger tensor.

    Args:
        pred_scores: logits.
        images: the image of each row of a layer.
        classes: its class.
        options: the form of the class cost, and its gain.
        dtype: of the arithmetic.
    """

    def __init__(
        self,
        pred_scores: Float[Tensor, "layers images queries classes"],
        images: Int64[Tensor, " rows"],
        classes: Int64[Tensor, " rows"],
        options: CostOptions,
        dtype: torch.dtype,
    ) -> None:
        per_layer, per_image, per_query, per_class = pred_scores.stride()
        (layers, images_in_all, queries, _), device = pred_scores.shape, pred_scores.device
        extent = sum((size - 1) * stride for size, stride in zip(pred_scores.shape, pred_scores.stride(), strict=True))
        layer = torch.arange(layers, device=device)[:, None]
        self.memory = pred_scores.as_strided((extent + 1,), (1,))
        self.rows = (layer * per_layer + images * per_image + classes * per_class).view(-1, 1)
        self.columns = torch.arange(queries, device=device) * per_query
        self.options = options
        self.image_of_row = (layer * images_in_all + images).view(-1)
        self.log_sums = None if options.use_fl else log_sums_of(pred_scores.to(dtype)).flatten(0, 1)

    def write(self, rows: slice, out: Float[Tensor, "rows queries"]) -> None:
        """Some of the rows."""
        shape, dtypes = tuple(out.shape), (torch.int64, self.memory.dtype, *[out.dtype] * 3)
        addresses, found, *planes = scratch(out.device, *((shape, dtype) for dtype in dtypes))
        torch.add(self.rows[rows], self.columns, out=addresses)
        torch.index_select(self.memory, 0, addresses.view(-1), out=found.view(-1))
        out.copy_(found)
        if self.log_sums is None:
            _focal_costs(out, planes, self.options)
        else:
            out.sub_(self.log_sums[self.image_of_row[rows]]).exp_().mul_(-self.options.class_gain)


class _LookedUp:
    """The same, from the costs of every class in every image: less to do where an image has more targets than classes.

    Args:
        table: those costs.
        rows: which of them each row is.
    """

    def __init__(self, table: Float[Tensor, "rows queries"], rows: Int64[Tensor, " rows_of_targets"]) -> None:
        self.table, self.rows = table, rows

    def write(self, rows: slice, out: Float[Tensor, "rows queries"]) -> None:
        """Some of the rows."""
        torch.index_select(self.table, 0, self.rows[rows], out=out)


def _class_costs(
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    image_of_row: Int64[Tensor, " rows"],
    options: CostOptions,
) -> _ClassCosts | _LookedUp:
    """The class costs of each target, a row for each in each layer."""
    layers, images, queries, classes = pred_scores.shape
    dtype, device = targets.boxes.dtype, pred_scores.device
    if len(targets.classes) <= images * classes:
        return _ClassCosts(pred_scores, targets.images, targets.classes, options, dtype)
    image, label = (torch.arange(size, device=device) for size in (images, classes))
    every = _ClassCosts(pred_scores, image.repeat_interleave(classes), label.repeat(images), options, dtype)
    table = torch.empty((layers * images * classes, queries), dtype=dtype, device=device)
    for rows in _blocks(table):
        every.write(rows, table[rows])
    return _LookedUp(table, image_of_row * classes + targets.classes.repeat(layers))


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


def _centres_and_halves(boxes: Float[Tensor, "*batch 4"]) -> list[Float[Tensor, "*batch"]]:
    """Centres and half the sizes of boxes, x before y."""
    x, y, width, height = boxes.unbind(-1)
    return [x, y, width / 2, height / 2]


def _add_box_costs(
    cost: Float[Tensor, "rows queries"], planes: Planes, targets: Float[Tensor, "rows 4"], options: CostOptions
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
    torch.add(its_half_width * its_half_height * 4 + IOU_EPS, union, alpha=4, out=union)  # of both, counted twice
    _compare(cost, (x, half_width), (its_x, its_half_width), around_x, options)
    _compare(cost, (y, half_height), (its_y, its_half_height), around_y, options)
    inter = half_width.clamp_(min=0).mul_(half_height.clamp_(min=0))
    union.sub_(inter)
    hull = around_x.mul_(around_y).add_(IOU_EPS)
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
