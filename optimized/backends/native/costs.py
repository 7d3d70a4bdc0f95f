"""`torch.costs.costs`, image by image, and the assignment beside it while the costs are in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.backends.by_costs import solved
from detr_conformance.optimized.backends.native.arithmetic import TWO, ZERO, F, log, logistic, power
from detr_conformance.optimized.backends.native.assignment import solve_rows, solve_stack
from detr_conformance.optimized.backends.native.jit import as_array, compiled, in_memory, in_threads
from detr_conformance.optimized.backends.torch import costs as plain
from detr_conformance.optimized.backends.torch.class_costs import PROBABILITY_EPS
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

PER_COST = 10
"""Nanoseconds, the assignment included."""

FOUR = F(4)
EPS = F(PROBABILITY_EPS)


def costs(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    options: CostOptions,
) -> Float[Tensor, "layers targets queries"]:
    """See `torch.costs`; float64 and costs of softmax go that way."""
    if _is_for_torch(targets, options):
        return plain.costs(pred_bboxes, pred_scores, targets, options)
    layers, _, queries, _ = pred_scores.shape
    total = torch.empty(layers, len(targets.classes), queries, dtype=torch.float32)
    _in_threads(_costs, total, pred_bboxes, pred_scores, targets, options)
    return total


def assign(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    options: CostOptions,
) -> Int64[Tensor, "layers targets"]:
    """See `backends.protocol`; the costs of one image are in memory at a time."""
    if _is_for_torch(targets, options):
        return solved(plain.costs(pred_bboxes, pred_scores, targets, options), targets, solve_stack, options.non_finite)
    answers = torch.empty(len(pred_scores), len(targets.classes), dtype=torch.int64)
    _in_threads(_assigned, answers, pred_bboxes, pred_scores, targets, options, float(options.non_finite))
    return answers


def _is_for_torch(targets: Targets, options: CostOptions) -> bool:
    return targets.boxes.dtype is torch.float64 or not options.use_fl


def _in_threads(
    kernel: Callable[..., None],
    out: Tensor,
    pred_bboxes: Tensor,
    pred_scores: Tensor,
    targets: Targets,
    options: CostOptions,
    *more: float,
) -> None:
    """Call a kernel for all images of all layers."""
    layers, images, queries, classes = pred_scores.shape
    logits, steps = in_memory(pred_scores)
    boxes = as_array(pred_bboxes.float())
    ends = np.cumsum((0, *targets.counts))
    of_targets = as_array(targets.boxes), as_array(targets.classes)
    gains = (options.class_gain, options.bbox_gain, options.giou_gain)
    numbers = map(float, (*gains, options.alpha, options.gamma, options.eps))
    given = (boxes, logits, *of_targets, ends, classes, *steps, *numbers, *more)

    def work(start: int, stop: int) -> None:
        kernel(start, stop, out.numpy(), *given)

    in_threads(work, layers * images, PER_COST * layers * len(targets.classes) * queries)


@compiled
@no_type_check
def _costs(
    start, stop, out, boxes, logits, gt_bboxes, gt_cls, ends, classes, of_layer, of_image,
    class_gain, bbox_gain, giou_gain, alpha, gamma, eps,
):  # fmt: skip
    """The costs of the images from `start` to before `stop`, counted through the layers, as they are."""
    images = boxes.shape[1]
    for piece in range(start, stop):
        layer, image = piece // images, piece % images
        own = slice(ends[image], ends[image + 1])
        _costs_of_image(
            out[layer, own], boxes[layer, image], logits[layer * of_layer + image * of_image :], gt_bboxes[own],
            gt_cls[own], classes, class_gain, F(bbox_gain), F(giou_gain), alpha, gamma, F(eps),
        )  # fmt: skip


@compiled
@no_type_check
def _assigned(
    start, stop, out, boxes, logits, gt_bboxes, gt_cls, ends, classes, of_layer, of_image,
    class_gain, bbox_gain, giou_gain, alpha, gamma, eps, non_finite,
):  # fmt: skip
    """The query of each target of these images, -1 where there are too few."""
    images, queries = boxes.shape[1:3]
    for piece in range(start, stop):
        layer, image = piece // images, piece % images
        own = slice(ends[image], ends[image + 1])
        count = ends[image + 1] - ends[image]
        costs = np.empty((count, queries), F)
        _costs_of_image(
            costs, boxes[layer, image], logits[layer * of_layer + image * of_image :], gt_bboxes[own],
            gt_cls[own], classes, class_gain, F(bbox_gain), F(giou_gain), alpha, gamma, F(eps),
        )  # fmt: skip
        solve_rows(costs, out[layer, own], non_finite)


@compiled
@no_type_check
def _costs_of_image(
    out, boxes, logits, gt_bboxes, gt_cls, classes, class_gain, bbox_gain, giou_gain, alpha, gamma, eps
):  # fmt: skip
    """A row for each target; the class costs of a class that several have are computed once."""
    targets, queries = out.shape
    x, y, half_width, half_height = (
        np.empty(queries, F),
        np.empty(queries, F),
        np.empty(queries, F),
        np.empty(queries, F),
    )
    for query in range(queries):
        x[query], y[query] = boxes[query, 0], boxes[query, 1]
        half_width[query], half_height[query] = boxes[query, 2] / TWO, boxes[query, 3] / TWO
    of_classes, row_of_class, rows = np.empty((targets, queries), F), np.full(classes, -1), 0
    column = np.empty(queries, F)
    for target in range(targets):
        label = gt_cls[target]
        if row_of_class[label] < 0:
            row_of_class[label] = rows
            for query in range(queries):
                column[query] = logits[query * classes + label]
            _class_costs(column, of_classes[rows], class_gain, alpha, gamma)
            rows += 1
        _add_box_costs(
            out[target], of_classes[row_of_class[label]], x, y, half_width, half_height, gt_bboxes[target],
            bbox_gain, giou_gain, eps,
        )  # fmt: skip


@compiled
@no_type_check
def _class_costs(logits, out, gain, alpha, gamma):
    """alpha (1 - p)^gamma (-log(p + 1e-8)) - (1 - alpha) p^gamma (-log(1 - p + 1e-8)), times the gain."""
    positive, negative = F(-alpha * gain), F((1 - alpha) * gain)
    if gamma == 2:
        for query in range(len(logits)):
            p, rest, _ = logistic(logits[query])
            out[query] = positive * (rest * rest) * log(p + EPS) + negative * (p * p) * log(rest + EPS)
    else:
        for query in range(len(logits)):
            p, rest, shared = logistic(logits[query])
            of_p, of_rest = power(logits[query], shared, gamma), power(-logits[query], shared, gamma)
            cost = positive * of_rest * log(p + EPS) + negative * of_p * log(rest + EPS)
            out[query] = cost + ZERO * p  # NaN is lost in neither way


@compiled
@no_type_check
def _add_box_costs(out, of_class, x, y, half_width, half_height, target, bbox_gain, giou_gain, eps):
    """Class costs plus weighted L1 and GIoU costs, see `torch.costs`."""
    its_x, its_y, its_half_width, its_half_height = target[0], target[1], target[2] / TWO, target[3] / TWO
    its_area = its_half_width * its_half_height
    for query in range(len(out)):
        across, down = abs(x[query] - its_x), abs(y[query] - its_y)
        wider, taller = abs(half_width[query] - its_half_width), abs(half_height[query] - its_half_height)
        both_wide, both_tall = half_width[query] + its_half_width, half_height[query] + its_half_height
        apart_x, apart_y = max(across, wider), max(down, taller)
        inter = max(both_wide - apart_x, ZERO) * max(both_tall - apart_y, ZERO)
        union = FOUR * (half_width[query] * half_height[query] + its_area) + eps - inter
        hull = (both_wide + apart_x) * (both_tall + apart_y) + eps
        distance = across + down + TWO * (wider + taller)
        giou = inter / union + union / hull
        out[query] = of_class[query] + bbox_gain * distance + giou_gain * (TWO - giou)
