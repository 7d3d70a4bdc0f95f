"""Mutants in the box terms of the matching cost, and in their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Guard, bbox_iou, replace_in
from detr_conformance.reference.boxes import iou
from detr_conformance.reference.matcher import Cost, CostTerms
from detr_conformance.reference.rounding import plain

OVERLAP, DISTANCE, TOTAL = "matcher.overlap", "matcher.distance", "matcher.total"


def ciou(pred: np.ndarray, target: np.ndarray, guard: Guard) -> Any:
    """CIoU where GIoU is meant."""
    return bbox_iou(pred, target, CIoU=True, eps=guard.eps)[..., 0]


def clamped(right: Callable[..., Cost], pred: np.ndarray, *others: Any) -> Cost:
    """Predicted boxes are clamped to [0, 1], all four numbers of the centre form."""
    return right(np.minimum(np.maximum(pred, 0.0), 1.0), *others)


def corner_distance(pred: np.ndarray, target: np.ndarray) -> Cost:
    """The L1 distance of corners: between left, top, right and bottom edges."""
    apart = pred - target
    centre, half = apart[..., :2], apart[..., 2:] / 2
    return np.sum(np.abs(centre - half) + np.abs(centre + half), axis=-1)


def swapped(right: Callable[..., Cost], terms: CostTerms, gain: Mapping[str, float]) -> Cost:
    """The gains of the two box terms are in each other's place."""
    return right(CostTerms(terms.cls, bbox=terms.giou, giou=terms.bbox), gain)


def in_float16(right: Callable[..., Cost], *args: Any) -> Cost:
    """The sum is kept with three digits, and infinite beyond 65504."""
    return plain(right(*args)).astype(np.float16).astype(np.float64)


def without(term: str) -> Change:
    """The sum lacks a term."""
    return wrapped(TOTAL, lambda right, terms, gain: right(terms, {**gain, term: 0.0}))


BOXES = "loss specification, HungarianMatcher: box cost and GIoU cost"
SUM = "loss specification, HungarianMatcher: gain-weighted sum, in float32 or better"

BOX_COST_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "khub-ciou-matching-cost",
        "MATCH",
        "The matching cost had CIoU where GIoU is meant. Right: 1 - GIoU. Shows on boxes of different shape.",
        "keras-team/keras-hub 0.32.0, models/d_fine",
        lambda spec: replace_in(spec, OVERLAP, ciou),
    ),
    Mutant(
        "detr-cost-without-iou-eps",
        "MATCH",
        "IoU was inter / union without eps: 0 / 0 for two boxes without area, and NaN went into the cost. Right: 1e-7 "
        "on union and hull. Shows on small boxes, too.",
        "facebookresearch/detr, util/box_ops.py; roboflow/rf-detr, pull request 1180",
        lambda spec: replace_in(spec, "matcher.guard", Guard(0.0)),
    ),
    Mutant(
        "lightly-cost-on-clamped-boxes",
        "MATCH",
        "Predicted boxes are clamped to [0, 1] before the cost: sound in a sense, but not this profile's. Right: boxes "
        "as they are. Shows on a box with a size below 0.",
        "lightly-ai/lightly-train, pull request 707",
        lambda spec: wrapped(DISTANCE, clamped)(wrapped(OVERLAP, clamped)(spec)),
    ),
    Mutant(
        "plausible-iou-cost",
        "MATCH",
        "The cost is 1 - IoU, the same for all boxes that do not meet the target. Right: 1 - GIoU. Shows on boxes that "
        "lie apart.",
        BOXES,
        lambda spec: replace_in(spec, OVERLAP, iou),
    ),
    Mutant(
        "plausible-giou-cost-sign",
        "MATCH",
        "The cost grows with GIoU. Right: 1 - GIoU. Shows wherever GIoU decides.",
        BOXES,
        wrapped(OVERLAP, lambda right, *pair: -right(*pair)),
    ),
    Mutant(
        "plausible-corner-distance-cost",
        "MATCH",
        "The L1 cost compares corners. Right: centres and sizes. Shows where one query is off in size and another one "
        "in place.",
        BOXES,
        lambda spec: replace_in(spec, DISTANCE, corner_distance),
    ),
    Mutant(
        "plausible-mean-distance-cost",
        "MATCH",
        "The L1 cost is the mean of four differences. Right: their sum. Shows where boxes and classes disagree.",
        BOXES,
        wrapped(DISTANCE, lambda right, *pair: right(*pair) / 4),
    ),
    Mutant(
        "plausible-cost-gains-swapped",
        "MATCH",
        "The gain of bbox weighs GIoU, and the other way round. Right: each its own. Shows with any two gains.",
        SUM,
        wrapped(TOTAL, swapped),
    ),
    Mutant(
        "plausible-cost-without-giou",
        "MATCH",
        "The GIoU term is missing. Right: three terms. Shows where GIoU decides.",
        SUM,
        without("giou"),
    ),
    Mutant(
        "plausible-cost-without-class",
        "MATCH",
        "The class term is missing. Right: three terms. Shows where the class decides.",
        SUM,
        without("class"),
    ),
    Mutant(
        "plausible-cost-in-float16",
        "MATCH",
        "The cost is kept in float16, whatever the predictions are. Right: float32 or better. Shows where two "
        "matchings cost nearly the same.",
        SUM,
        wrapped(TOTAL, in_float16),
    ),
)
