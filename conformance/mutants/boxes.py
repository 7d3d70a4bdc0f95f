"""Mutants in the GIoU loss: corners, areas, and which measure it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Guard, bbox_iou, replace_in
from detr_conformance.reference.boxes import Overlap, area, corners_of_centre_form, overlap_of
from detr_conformance.reference.tape import Array, stop_gradient

BOXES = "loss specification, Boxes"
GIOU = "box_terms.giou"


def measured(measure: Callable[[Overlap], Array]) -> Change:
    """The box loss is 1 less another measure of the overlap."""
    return by_boxes(lambda boxes, wanted, guard: measure(overlap_of(boxes, wanted, guard)))


def by_boxes(measure: Callable[[Array, np.ndarray, Guard], Array]) -> Change:
    """The box loss is 1 less another measure of the two boxes."""
    return lambda spec: replace_in(spec, GIOU, lambda *of_pair: 1.0 - measure(*of_pair))


def read_as(change: Callable[[Array], Array]) -> Change:
    """Both boxes are read otherwise before the GIoU is taken."""
    return wrapped(GIOU, lambda right, boxes, wanted, guard: right(change(boxes), change(wanted), guard))


def weighted_by_itself(right: Callable[..., Array], *of_pair: Array | Guard) -> Array:
    """1 - GIoU is weighted by the GIoU, a constant."""
    apart = right(*of_pair)
    return (1.0 - stop_gradient(apart)) * apart


def negative_overlap(boxes: Array, wanted: np.ndarray, guard: Guard) -> Array:
    """GIoU where sides of the intersection may be negative, and two negative ones make an area."""
    a, b, right = corners_of_centre_form(boxes), corners_of_centre_form(wanted), overlap_of(boxes, wanted, guard)
    inter = area(np.minimum(a.high, b.high) - np.maximum(a.low, b.low))
    return replace(right, inter=inter, union=guard(area(a.size) + area(b.size) - inter)).giou


BOX_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "khub-ciou-for-giou",
        "BOX",
        "keras-hub's D-FINE (0.32.0) computes CIoU where GIoU is meant. Right: IoU - (hull - union) / hull. Shows on "
        "any two boxes of different shape.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        by_boxes(lambda boxes, wanted, guard: bbox_iou(boxes, wanted, CIoU=True, eps=guard.eps)[..., 0]),
    ),
    Mutant(
        "rtdetrv2-giou-weighted-by-itself",
        "BOX",
        "With boxes_weight_format='giou' each 1 - GIoU is multiplied by the GIoU, and the loss can be negative. Right: "
        "no weight. Shows where prediction and target do not touch.",
        "lyuwenyu/RT-DETR, rtdetrv2_pytorch, rtdetrv2_criterion.py",
        wrapped(GIOU, weighted_by_itself),
    ),
    Mutant(
        "plausible-hull-minus-union-swapped",
        "BOX",
        "GIoU is IoU - (union - hull) / hull, which rewards distance. Right: IoU - (hull - union) / hull. Shows on any "
        "two boxes.",
        BOXES,
        measured(lambda areas: areas.iou - (areas.union - areas.hull) / areas.hull),
    ),
    Mutant(
        "plausible-union-without-subtraction",
        "BOX",
        "The union is the sum of the two areas. Right: less the intersection. Shows where boxes overlap.",
        BOXES,
        measured(lambda areas: replace(areas, union=areas.union + areas.inter).giou),
    ),
    Mutant(
        "plausible-negative-overlap",
        "BOX",
        "The sides of the intersection are not held at 0 or more: boxes apart along both axes overlap by the product "
        "of two negative sides. Right: 0. Shows on boxes apart.",
        BOXES,
        by_boxes(negative_overlap),
    ),
    Mutant(
        "plausible-iou-for-giou",
        "BOX",
        "The box loss is 1 - IoU, which says nothing where boxes do not overlap. Right: 1 - GIoU. Shows on any two "
        "boxes.",
        BOXES,
        measured(lambda areas: areas.iou),
    ),
    Mutant(
        "plausible-width-and-height-swapped",
        "BOX",
        "Corners are made with the height along x and the width along y. Right: half the width along x. Shows on boxes "
        "that are not square.",
        BOXES,
        read_as(lambda boxes: boxes[:, [0, 1, 3, 2]]),
    ),
    Mutant(
        "plausible-centre-form-read-as-corners",
        "BOX",
        "Boxes in centre form are read as left, top, right, bottom. Right: corners from the centre and half the size. "
        "Shows on any box.",
        BOXES,
        by_boxes(lambda boxes, wanted, guard: bbox_iou(boxes, wanted, xywh=False, GIoU=True, eps=guard.eps)[..., 0]),
    ),
    Mutant(
        "plausible-width-for-height",
        "INV",
        "A wrong index takes the width for the height too. Right: each its own. Shows when the image is reflected "
        "along its diagonal.",
        BOXES,
        read_as(lambda boxes: boxes[:, [0, 1, 2, 2]]),
    ),
)
