"""Mutants of LW-DETR's IoU-aware cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, replace_in
from detr_conformance.reference.boxes import giou, iou
from detr_conformance.reference.classification import (
    LEAST_TARGET,
    Terms,
    detached_unmatched_fade,
    label,
    score,
    sigmoid,
    softplus,
)
from detr_conformance.reference.family import LWDETR, RFDETR
from detr_conformance.reference.tape import stop_gradient

TARGET, WEIGHT, ENTROPY = (f"class_terms.ia_bce.{part}" for part in ("target", "weight", "entropy"))
SECTION = "Chen et al., LW-DETR, arXiv 2406.03459, section 3.3"

Part = Callable[..., Terms]

ia_bce_mutant = partial(Mutant, home=LWDETR)


def product(_right: Part, x: Terms, y: Terms, q: Terms, _config: LossConfig) -> Terms:
    """p q, without exponents."""
    return np.maximum(sigmoid(stop_gradient(x)) * q, LEAST_TARGET) * y


def exponents_swapped(_right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """p^(1 - alpha) q^alpha."""
    both = sigmoid(stop_gradient(x)) ** (1.0 - config.alpha) * q**config.alpha
    return np.maximum(both, LEAST_TARGET) * y


def without_least(_right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """No least target."""
    return sigmoid(stop_gradient(x)) ** config.alpha * q ** (1.0 - config.alpha) * y


def larger_least(right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """A least target of 0.1."""
    return np.maximum(right(x, y, q, config), 0.1) * y


def alpha_of_a_quarter(_right: Part, x: Terms, y: Terms, q: Terms, _config: LossConfig) -> Terms:
    """An alpha of 0.25, whatever is asked for."""
    return np.maximum(sigmoid(stop_gradient(x)) ** 0.25 * q**0.75, LEAST_TARGET) * y


def attached(_right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """The gradient flows through p in the target."""
    return np.maximum(sigmoid(x) ** config.alpha * q ** (1.0 - config.alpha), LEAST_TARGET) * y


def unfaded(_right: Part, _x: Terms, y: Terms, _q: Terms, _config: LossConfig) -> Terms:
    """The background has no weight."""
    return np.ones_like(y)


def balanced(_right: Part, x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """(1 - alpha) p^2 for the background, as in the focal loss."""
    return (1.0 - config.alpha) * sigmoid(x) ** config.gamma * (1.0 - y) + y


def by_target(right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """A matched query counts q."""
    return right(x, y, q, config) - y + q


def zero_overlap_is_background(right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """A matched query whose box misses its target has the target 0."""
    return right(x, y, q, config) * (q > 0)


def of_probabilities(x: Terms, q: Terms) -> Terms:
    """The logarithm of a rounded probability: infinite where it has been rounded to 0 or 1."""
    p = sigmoid(x)
    saturated = np.abs(stop_gradient(x)) > 17.0  # beyond it p or 1 - p is 0 in float32
    return np.where(saturated, np.nan, 1.0) * (q * softplus(-x) + (1.0 - q) * softplus(x) + 0.0 * p)


def detached_giou(boxes: Any, wanted: Any, guard: Any) -> Any:
    """The GIoU, at least 0, a constant."""
    return np.maximum(giou(stop_gradient(boxes), wanted, guard), 0.0)


def attached_iou(boxes: Any, wanted: Any, guard: Any) -> Any:
    """The IoU, through which a gradient flows into the box."""
    return iou(boxes, wanted, guard)


IOU_AWARE_MUTANTS: tuple[Mutant, ...] = (
    ia_bce_mutant(
        "plausible-ia-target-without-exponents",
        "CLASS",
        "The target is p q. Right: p^alpha q^(1 - alpha). Shows on a match with some overlap.",
        SECTION,
        wrapped(TARGET, product),
    ),
    ia_bce_mutant(
        "plausible-ia-exponents-swapped",
        "CLASS",
        "The target is p^(1 - alpha) q^alpha. Right: p^alpha q^(1 - alpha). Shows on a match with some overlap.",
        SECTION,
        wrapped(TARGET, exponents_swapped),
    ),
    ia_bce_mutant(
        "plausible-ia-target-without-p",
        "CLASS",
        "The target is q. Right: p has a share in it. Shows on a match with some overlap.",
        SECTION,
        lambda spec: replace_in(spec, TARGET, score),
    ),
    ia_bce_mutant(
        "plausible-ia-target-is-one",
        "CLASS",
        "The target is 1. Right: p^alpha q^(1 - alpha). Shows on any match.",
        SECTION,
        lambda spec: replace_in(spec, TARGET, label),
    ),
    ia_bce_mutant(
        "plausible-ia-without-least-target",
        "CLASS",
        "The target may be 0. Right: at least 0.01. Shows on a match without overlap.",
        SECTION,
        wrapped(TARGET, without_least),
    ),
    ia_bce_mutant(
        "plausible-ia-least-target-of-a-tenth",
        "CLASS",
        "The target is at least 0.1. Right: 0.01. Shows on a match with little overlap.",
        SECTION,
        wrapped(TARGET, larger_least),
    ),
    ia_bce_mutant(
        "plausible-ia-alpha-hard-coded",
        "CLASS",
        "The exponents are 0.25 and 0.75, whatever alpha is. Right: alpha and 1 - alpha. Shows with another alpha.",
        SECTION,
        wrapped(TARGET, alpha_of_a_quarter),
    ),
    ia_bce_mutant(
        "plausible-ia-target-not-detached",
        "GRAD",
        "The gradient flows through p in the target. Right: the target is a constant. Shows in the gradient with "
        "respect to the logit of a matched query.",
        SECTION,
        wrapped(TARGET, attached),
    ),
    ia_bce_mutant(
        "plausible-ia-fading-detached",
        "GRAD",
        "The weight of the background is a constant. Right: the gradient flows through it. Shows in any gradient "
        "with respect to a background logit.",
        "Atten4Vis/LW-DETR, models/lwdetr.py: prob ** gamma is part of the graph",
        lambda spec: replace_in(spec, WEIGHT, detached_unmatched_fade),
    ),
    ia_bce_mutant(
        "plausible-ia-without-fading",
        "CLASS",
        "The background has no weight. Right: p^2. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, unfaded),
    ),
    ia_bce_mutant(
        "plausible-ia-background-balanced",
        "CLASS",
        "The background counts 1 - alpha, as in the focal loss. Right: IA-BCE has no balance. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, balanced),
    ),
    ia_bce_mutant(
        "plausible-ia-weighs-by-score",
        "CLASS",
        "A matched query counts q, as in the varifocal loss. Right: 1. Shows on a match whose box is not perfect.",
        SECTION,
        wrapped(WEIGHT, by_target),
    ),
    ia_bce_mutant(
        "rfdetr-zero-overlap-is-background",
        "CLASS",
        "A matched query without overlap became a negative, as the repository's varifocal option has it. Right: its "
        "target is 0.01. Shows on a match without overlap.",
        "roboflow/rf-detr 1.11.2, use_varifocal_loss",
        wrapped(TARGET, zero_overlap_is_background),
    ),
    ia_bce_mutant(
        "hf-lwdetr-log-of-probability",
        "NUM",
        "The logarithm was taken of a probability that had been rounded to 0 or 1: NaN. Right: from the logit. Shows "
        "beyond logits of 17.",
        "huggingface/transformers 5.23.0, loss/loss_lw_detr.py",
        lambda spec: replace_in(spec, ENTROPY, of_probabilities),
    ),
    ia_bce_mutant(
        "plausible-ia-by-giou",
        "CLASS",
        "The target is made of the GIoU. Right: of the IoU. Shows on a match whose box is not perfect.",
        SECTION,
        lambda spec: replace_in(spec, "score", detached_giou),
        home=RFDETR,
    ),
    ia_bce_mutant(
        "plausible-ia-score-not-detached",
        "CLASS",
        "The classification loss has a gradient with respect to the box, through the IoU. Right: the IoU is a "
        "constant. Shows on a match with some overlap.",
        SECTION,
        lambda spec: replace_in(spec, "score", attached_iou),
        home=RFDETR,
    ),
)
