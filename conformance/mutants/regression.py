"""Mutants in the L1 loss, and in what a batch without a pair gives."""

from __future__ import annotations

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.normaliser import BOX, divided, unguarded
from detr_conformance.reference import Guard, replace_in
from detr_conformance.reference.boxes import corners_of_centre_form
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array

STEP_5 = "loss specification, DETRLoss, step 5"
L1 = "box_terms.bbox"


def corner_form(boxes: Array) -> Array:
    """Left, top, right, bottom."""
    corners = corners_of_centre_form(boxes)
    return np.concatenate([corners.low, corners.high], axis=-1)


def smooth_l1(boxes: Array, wanted: np.ndarray, _guard: Guard) -> Array:
    """Quadratic below 1, which is everywhere."""
    apart = np.abs(boxes - wanted)
    return np.sum(np.where(plain(apart) < 1.0, apart**2 / 2.0, apart - 0.5), axis=-1)


REGRESSION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "netspresso-l1-on-corner-boxes",
        "REG",
        "The L1 loss compared predictions in centre form with targets in corner form. Right: the same form on both "
        "sides. Shows on perfect predictions: loss_bbox is not 0 while loss_giou is.",
        "Nota-NetsPresso/netspresso-trainer, commit ceba052c",
        wrapped(L1, lambda right, boxes, wanted, guard: right(boxes, corner_form(wanted), guard)),
    ),
    Mutant(
        "scenic-l1-on-corners",
        "REG",
        "The L1 loss is taken of left, top, right and bottom, while the matching cost takes centre and size. Right: "
        "centre form in both. Shows on boxes of different size.",
        "google-research/scenic, commit 4a38d47, DETR's loss",
        wrapped(L1, lambda right, boxes, wanted, guard: right(corner_form(boxes), corner_form(wanted), guard)),
    ),
    Mutant(
        "detrtf-mean-of-nothing",
        "REG",
        "The box losses were divided by the number of pairs even where it was 0. Right: zeros. Shows in a batch "
        "without targets: NaN.",
        "Visual-Behavior/detr-tensorflow, commit 78fb71b, box losses",
        divided(unguarded, *BOX),
    ),
    Mutant(
        "plausible-l1-averaged-over-coordinates",
        "REG",
        "The L1 loss is a mean over all numbers, which divides by 4 as well. Right: the sum over the four numbers of a "
        "box. Shows on any pair.",
        STEP_5,
        wrapped(L1, lambda right, *of_pair: right(*of_pair) / 4),
    ),
    Mutant(
        "plausible-smooth-l1",
        "REG",
        "The smooth L1 loss takes the place of L1: half the square of every difference below 1. Right: the absolute "
        "difference. Shows on any pair.",
        STEP_5,
        lambda spec: replace_in(spec, L1, smooth_l1),
    ),
    Mutant(
        "plausible-minus-giou",
        "REG",
        "The GIoU loss is -GIoU, as some matchers write the cost. Right: 1 - GIoU. Shows on any pair; gradients are "
        "the same.",
        STEP_5,
        wrapped("box_terms.giou", lambda right, *of_pair: right(*of_pair) - 1.0),
    ),
)
