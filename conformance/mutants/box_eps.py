"""Mutants in what keeps the GIoU loss finite: eps, and boxes that are clipped or clamped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.mutants.boxes import BOXES, by_boxes, read_as
from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import Guard, replace_in, wrap_in
from detr_conformance.reference.boxes import IOU_EPS, area, corners_of_centre_form, overlap
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array


def clamped(numbers: Array) -> Array:
    """At least 0 and at most 1; on the border itself the gradient passes, as through torch.clamp."""
    return np.where(plain(numbers) < 0.0, 0.0, np.where(plain(numbers) > 1.0, 1.0, numbers))


def clipped(boxes: Array) -> Array:
    """Boxes in centre form, corners beyond the edge of the image moved onto it."""
    corners = corners_of_centre_form(boxes)
    low, high = (np.minimum(np.maximum(each, 0.0), 1.0) for each in (corners.low, corners.high))
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def eps_on_sizes(boxes: Array, wanted: np.ndarray, _guard: Guard) -> Array:
    """GIoU with eps added to widths and heights instead of areas."""
    a, b = corners_of_centre_form(boxes), corners_of_centre_form(wanted)
    right = overlap(a, b, a.size + IOU_EPS, b.size + IOU_EPS, Guard(0.0))
    return replace(right, hull=area(right.around + IOU_EPS)).giou


BOX_EPS_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "detr-iou-zero-union-nan",
        "BOX",
        "IoU of two boxes without area was 0 / 0, and the NaN entered loss and cost. Right under this profile: 1e-7 is "
        "added to the union and to the hull. Shows where prediction and target are the same point.",
        "facebookresearch/detr and copies; pytorch/vision, issue 3404; roboflow/rf-detr, pull request 1180",
        lambda spec: wrap_in(spec, "guard", lambda right: replace(right, eps=0.0)),
    ),
    Mutant(
        "scenic-larger-eps",
        "BOX",
        "1e-6 is added to the union and to the hull. Right under this profile: 1e-7. Shows on tiny boxes, which never "
        "reach a GIoU of 1.",
        "google-research/scenic, DETR's box functions",
        lambda spec: wrap_in(spec, "guard", lambda right: replace(right, eps=10.0 * IOU_EPS)),
    ),
    Mutant(
        "rfdetr-eps-as-floor",
        "BOX",
        "Union and hull are clamped to at least 1e-7, which leaves ordinary boxes exact. Right under this profile: "
        "1e-7 is added. Shows on tiny boxes.",
        "roboflow/rf-detr, pull request 1180",
        lambda spec: replace_in(spec, "guard", Guard(IOU_EPS, as_floor=True)),
    ),
    Mutant(
        "detrtf-boxes-clipped",
        "BOX",
        "Corners were clipped to the image before areas were taken. Right: boxes as they stand. Shows where a box "
        "reaches over the edge.",
        "Visual-Behavior/detr-tensorflow, commit 78fb71b, box functions",
        read_as(clipped),
    ),
    Mutant(
        "lightly-box-sanitise-clamps-gradient",
        "BOX",
        "The four numbers of a prediction are clamped to [0, 1] before the box losses. Right under this profile: "
        "nothing is clamped. Shows on a box turned inside out, whose size becomes 0 and has no gradient.",
        "lightly-ai/lightly-train, pull request 707",
        wrapped("matched_boxes", lambda right, *of_layer: clamped(right(*of_layer))),
    ),
    Mutant(
        "plausible-eps-on-sizes",
        "BOX",
        "1e-7 is added to widths and heights. Right: to the union and the hull. Shows on tiny boxes.",
        BOXES,
        by_boxes(eps_on_sizes),
    ),
)
