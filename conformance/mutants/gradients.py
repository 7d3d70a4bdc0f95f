"""Mutants in backward passes: values are right, and a derivative is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Guard, LossConfig, replace_in
from detr_conformance.reference.boxes import overlap_of
from detr_conformance.reference.classification import Terms, detached_varifocal_weight, truth
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, stop_gradient, with_gradient_of

STEP_4 = "loss specification, DETRLoss, step 4"
STEP_5 = "loss specification, DETRLoss, step 5"


def with_backward(path: str, other: Callable[..., Array]) -> Change:
    """What the field at this path returns has the gradient of something else, made of it and of its arguments."""

    def bent(right: Callable[..., Array], *args: Any) -> Array:
        values = right(*args)
        return with_gradient_of(values, other(values, *args))

    return wrapped(path, bent)


def infinite_fading(weight: Terms, x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """The derivative of (1 - p_t)^gamma is infinite where p_t has been rounded to 1, and multiplied by 0: NaN."""
    certain = plain(truth(x, y)).astype(np.float32) == 1.0
    return weight * np.where(certain & (0.0 < config.gamma < 1.0), np.nan, 1.0)


def hull_detached(_loss: Array, pred: Array, target: Array, guard: Guard) -> Array:
    """1 - GIoU whose hull is a constant."""
    areas = overlap_of(pred, target, guard)
    return 1.0 - replace(areas, hull=stop_gradient(areas.hull)).giou


def union_detached(_loss: Array, pred: Array, target: Array, guard: Guard) -> Array:
    """1 - GIoU whose union is a constant."""
    areas = overlap_of(pred, target, guard)
    return 1.0 - replace(areas, union=stop_gradient(areas.union)).giou


def half_square(_loss: Array, pred: Array, target: Array, _guard: Guard) -> Array:
    """Half the squared distance, whose derivative is the difference."""
    return np.sum((pred - target) ** 2, axis=-1) / 2.0


def without_gain(weighted: Array, loss: Array, term: str, _config: LossConfig) -> Array:
    """The L1 loss before its gain."""
    return loss if term == "bbox" else weighted


GRADIENT_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ul-focal-gradient-nan",
        "GRAD",
        "The derivative of (1 - p_t)^gamma is infinite where p_t has been rounded to 1, and was multiplied by 0: NaN. "
        "Right: the limit, 0. Shows for a gamma between 0 and 1 and a logit that is surely right.",
        "ultralytics/ultralytics 8.4.190, docs/findings.md; google-deepmind/optax, issue 1267, pull request 1346",
        with_backward("class_terms.focal.weight", infinite_fading),
    ),
    Mutant(
        "plausible-focal-weight-detached",
        "GRAD",
        "The factor (1 - p_t)^gamma is a constant. Right: it is differentiated. Values are equal; only gradients show "
        "it.",
        f"{STEP_4}: focal",
        with_backward("class_terms.focal.weight", lambda weight, *_: stop_gradient(weight)),
    ),
    Mutant(
        "plausible-vfl-weight-detached",
        "GRAD",
        "The weight alpha p^gamma is a constant, as in lyuwenyu/RT-DETR. Right under this profile: it is "
        "differentiated through p. Values are equal; only gradients show it.",
        f"{STEP_4}: varifocal; ultralytics/ultralytics, pull request 23152, closed",
        lambda spec: replace_in(spec, "class_terms.varifocal.weight", detached_varifocal_weight),
    ),
    Mutant(
        "plausible-hull-not-differentiated",
        "GRAD",
        "The backward pass of GIoU leaves out the hull's own change. Right: the quotient rule. Shows where the "
        "prediction bounds the hull.",
        f"{STEP_5}: loss_giou",
        with_backward("box_terms.giou", hull_detached),
    ),
    Mutant(
        "plausible-union-not-differentiated",
        "GRAD",
        "The backward pass of GIoU leaves out the union's own change. Right: the quotient rule. Shows on any pair.",
        f"{STEP_5}: loss_giou",
        with_backward("box_terms.giou", union_detached),
    ),
    Mutant(
        "plausible-giou-gradient-negated",
        "GRAD",
        "The backward pass returns the derivative of GIoU. Right: that of 1 - GIoU. Shows on any pair.",
        f"{STEP_5}: loss_giou",
        with_backward("box_terms.giou", lambda loss, *_: -loss),
    ),
    Mutant(
        "plausible-l1-gradient-of-square",
        "GRAD",
        "The backward pass of the L1 loss returns the difference. Right: its sign. Shows on any pair.",
        f"{STEP_5}: loss_bbox",
        with_backward("box_terms.bbox", half_square),
    ),
    Mutant(
        "plausible-gain-not-in-backward",
        "GRAD",
        "The backward pass of the L1 loss leaves out the gain, or what came from above. Right: everything that "
        "multiplies the value. Shows with a gain other than 1.",
        f"{STEP_5}: loss_bbox",
        with_backward("gain", without_gain),
    ),
)
