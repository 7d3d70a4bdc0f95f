"""The class part of the matching costs in plain torch."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.backends.torch.scratch import scratch
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

PROBABILITY_EPS = 1e-8
"""Keeps the logarithms of the class cost finite."""


def log_sums_of(logits: Float[Tensor, "*images queries classes"]) -> Float[Tensor, "*images queries"]:
    """Logarithm of what softmax divides by; NaN where a logit is infinite, for there softmax is NaN in every class."""
    log_sums = logits.logsumexp(-1)
    return log_sums.masked_fill_(log_sums.isposinf(), torch.nan)


class _ClassCosts:
    """Class costs of every layer: a row for each target, a column for each query of its image.

    Args:
        pred_scores: logits.
        targets: of all images.
        options: the form of the class cost, and its gain.
    """

    def __init__(
        self, pred_scores: Float[Tensor, "layers images queries classes"], targets: Targets, options: CostOptions
    ) -> None:
        layers = len(pred_scores)
        self.pred_scores, self.options = pred_scores, options
        self.layers = torch.arange(layers, device=pred_scores.device).repeat_interleave(len(targets.classes))
        self.images, self.classes = targets.images.repeat(layers), targets.classes.repeat(layers)
        self.log_sums = None if options.use_fl else log_sums_of(pred_scores.to(targets.boxes.dtype))

    def write(self, rows: slice, out: Float[Tensor, "rows queries"]) -> None:
        """Some of the rows."""
        layers, images = self.layers[rows], self.images[rows]
        out.copy_(self.pred_scores[layers, images, :, self.classes[rows]])
        if self.log_sums is None:
            _focal_costs(out, self.options)
        else:
            _softmax_costs(out, self.log_sums[layers, images], self.options)


class _LookedUp:
    """The same, from the costs of every class in every image: less to do where a batch has more targets than that.

    Args:
        table: those costs.
        rows: which of them each row is.
    """

    def __init__(self, table: Float[Tensor, "rows queries"], rows: Int64[Tensor, " rows_of_targets"]) -> None:
        self.table, self.rows = table, rows

    def write(self, rows: slice, out: Float[Tensor, "rows queries"]) -> None:
        """Some of the rows."""
        torch.index_select(self.table, 0, self.rows[rows], out=out)


def class_costs(
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    image_of_row: Int64[Tensor, " rows"],
    options: CostOptions,
    block: int,
) -> _ClassCosts | _LookedUp:
    """What writes the class costs of each target, a row for each in each layer.

    Args:
        pred_scores: logits.
        targets: of all images.
        image_of_row: the image of each row, counted through the layers.
        options: gain, and the form of the class cost; see `costs`.
        block: how many costs are computed at once.
    """
    layers, images, _, classes = pred_scores.shape
    if len(targets.classes) <= images * classes:
        return _ClassCosts(pred_scores, targets, options)
    table = _costs_of_all_classes(pred_scores, options, targets.boxes.dtype, block)
    return _LookedUp(table.flatten(0, 2), image_of_row * classes + targets.classes.repeat(layers))


def _costs_of_all_classes(
    logits: Float[Tensor, "layers images queries classes"], options: CostOptions, dtype: torch.dtype, block: int
) -> Float[Tensor, "layers images classes queries"]:
    """Class costs of every class in every image."""
    layers, images, queries, classes = logits.shape
    table = torch.empty((layers, images, classes, queries), dtype=dtype, device=logits.device)
    height = max(1, block // (queries * classes))
    of_logits, of_table = ([part for layer in each for part in layer.split(height)] for each in (logits, table))
    for own, cost in zip(of_logits, of_table, strict=True):
        cost.copy_(own.transpose(1, 2))
        if options.use_fl:
            _focal_costs(cost, options)
        else:
            _softmax_costs(cost, log_sums_of(own.to(dtype)).unsqueeze(1), options)
    return table


def _focal_costs(cost: Float[Tensor, "*rows queries"], options: CostOptions) -> None:
    """Turn logits into focal class costs, in place."""
    p, rest, faded = scratch(cost.device, *[(tuple(cost.shape), cost.dtype)] * 3)
    torch.sigmoid(cost, out=p)
    torch.neg(cost, out=rest).sigmoid_()  # 1 - p would have lost its digits where p is near 1
    torch.add(p, PROBABILITY_EPS, out=cost).log_()
    torch.pow(rest, options.gamma, out=faded)
    cost.mul_(faded).mul_(-options.alpha * options.class_gain)
    torch.pow(p, options.gamma, out=faded)
    rest.add_(PROBABILITY_EPS).log_().mul_(faded)
    cost.add_(rest, alpha=(1 - options.alpha) * options.class_gain)


def _softmax_costs(
    cost: Float[Tensor, "*rows queries"], log_sums: Float[Tensor, "*#rows queries"], options: CostOptions
) -> None:
    """Turn logits into class costs of softmax, in place."""
    cost.sub_(log_sums).exp_().mul_(-options.class_gain)
