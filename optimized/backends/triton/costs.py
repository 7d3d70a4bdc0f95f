"""Matching costs of all layers, images and targets in one launch: `torch.costs.costs`."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.torch.class_costs import PROBABILITY_EPS, log_sums_of
from detr_conformance.optimized.backends.triton.arithmetic import logistic, power
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

LARGEST_BLOCK = 512
"""Queries of one program."""


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _class_cost(x, log_sum, ALPHA: tl.constexpr, GAMMA: tl.constexpr, FOCAL: tl.constexpr, EPS: tl.constexpr):
    """Focal, or minus the probability by softmax."""
    if FOCAL:
        DOUBLE: tl.constexpr = x.dtype == tl.float64
        p, rest, minus_log_rest, minus_log_p = logistic(x, DOUBLE)
        positive = ALPHA * power(rest, minus_log_rest, GAMMA) * -tl.log(p + EPS)
        negative = (1.0 - ALPHA) * power(p, minus_log_p, GAMMA) * -tl.log(rest + EPS)
        return positive - negative
    else:
        return -tl.exp(x - log_sum)


@triton.jit
@no_type_check
def _overlap(centre, size, target_centre, target_size):
    """Extent of the intersection and of the hull along one axis; NaN stays NaN."""
    low, high = centre - size / 2, centre + size / 2
    target_low, target_high = target_centre - target_size / 2, target_centre + target_size / 2
    inner = tl.where(high < target_high, high, target_high) - tl.where(low > target_low, low, target_low)
    outer = tl.where(high > target_high, high, target_high) - tl.where(low < target_low, low, target_low)
    return tl.where(inner < 0, 0.0, inner), outer


@triton.jit(do_not_specialize=["gts"])  # it changes from batch to batch
@no_type_check
def _costs(
    boxes, logits, log_sums, gt_boxes, gt_classes, gt_images, costs,
    box_of_layer, box_of_image, box_of_query, box_of_number, of_layer, of_image, of_query, of_class,
    images, queries, gts,
    CLASS_GAIN: tl.constexpr, BBOX_GAIN: tl.constexpr, GIOU_GAIN: tl.constexpr,
    ALPHA: tl.constexpr, GAMMA: tl.constexpr, FOCAL: tl.constexpr,
    IOU_EPS: tl.constexpr, PROBABILITY_EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One target in one layer against a block of the queries of its image."""
    row = tl.program_id(0).to(tl.int64)
    layer = row // gts
    gt = row - layer * gts
    query = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = query < queries
    image = tl.load(gt_images + gt)
    DTYPE: tl.constexpr = gt_boxes.dtype.element_ty

    at = logits + layer * of_layer + image * of_image + tl.load(gt_classes + gt) * of_class
    x = tl.load(at + query * of_query, mask=inside, other=0.0).to(DTYPE)
    log_sum = x
    if not FOCAL:
        log_sum = tl.load(log_sums + (layer * images + image) * queries + query, mask=inside, other=0.0)
    total = CLASS_GAIN * _class_cost(x, log_sum, ALPHA, GAMMA, FOCAL, PROBABILITY_EPS)

    box = boxes + layer * box_of_layer + image * box_of_image + query * box_of_query
    centre_x = tl.load(box, mask=inside, other=0.0).to(DTYPE)
    centre_y = tl.load(box + box_of_number, mask=inside, other=0.0).to(DTYPE)
    width = tl.load(box + 2 * box_of_number, mask=inside, other=0.0).to(DTYPE)
    height = tl.load(box + 3 * box_of_number, mask=inside, other=0.0).to(DTYPE)
    target_x, target_y = tl.load(gt_boxes + gt * 4), tl.load(gt_boxes + gt * 4 + 1)
    target_width, target_height = tl.load(gt_boxes + gt * 4 + 2), tl.load(gt_boxes + gt * 4 + 3)
    apart = tl.abs(centre_x - target_x) + tl.abs(centre_y - target_y)
    total += BBOX_GAIN * (apart + tl.abs(width - target_width) + tl.abs(height - target_height))

    shared_x, around_x = _overlap(centre_x, width, target_x, target_width)
    shared_y, around_y = _overlap(centre_y, height, target_y, target_height)
    inter = shared_x * shared_y
    union = width * height + target_width * target_height - inter + IOU_EPS
    hull = around_x * around_y + IOU_EPS
    total += GIOU_GAIN * (1.0 - inter / union + (hull - union) / hull)
    tl.store(costs + row * queries + query, total, mask=inside)


def costs(
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    options: CostOptions,
) -> Float[Tensor, "layers targets queries"]:
    """See `torch.costs.costs`; nothing is read back from the device."""
    layers, images, queries, _ = pred_scores.shape
    dtype, gts = targets.boxes.dtype, len(targets.classes)
    total = torch.empty((layers, gts, queries), dtype=dtype, device=pred_scores.device)
    log_sums = total if options.use_fl else log_sums_of(pred_scores.to(dtype))
    block = min(LARGEST_BLOCK, triton.next_power_of_2(queries))
    if total.numel():
        with torch.cuda.device(total.get_device()):  # where Triton launches; -1 on the CPU, which changes nothing
            _costs[(layers * gts, triton.cdiv(queries, block))](
                pred_bboxes, pred_scores, log_sums, targets.boxes.contiguous(), targets.classes, targets.images, total,
                *pred_bboxes.stride(), *pred_scores.stride(), images, queries, gts,
                CLASS_GAIN=options.class_gain, BBOX_GAIN=options.bbox_gain, GIOU_GAIN=options.giou_gain,
                ALPHA=options.alpha, GAMMA=options.gamma, FOCAL=options.use_fl,
                IOU_EPS=options.eps, PROBABILITY_EPS=PROBABILITY_EPS, BLOCK=block,
            )  # fmt: skip
    return total
