"""Mutants in which queries are classified, and in the weight of those without a target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig
from detr_conformance.reference.tape import Array

STEP_4 = "loss specification, DETRLoss, step 4"
TOTAL = "class_total"


def only(chosen: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Some queries take part, chosen by whether they have a target."""
    return wrapped(
        TOTAL,
        lambda right, terms, is_matched, c: right(np.where(chosen(is_matched)[..., None], terms, 0.0), is_matched, c),
    )


def lighter_background(right: Callable[..., Array], terms: Array, is_matched: np.ndarray, config: LossConfig) -> Array:
    """Queries without a target are weighted by the gain no_object, or its default."""
    weights = np.where(is_matched, 1.0, config.loss_gain.get("no_object", 0.1))
    return right(terms * weights[..., None], is_matched, config)


def nothing_without_targets(
    right: Callable[..., Array], terms: Array, is_matched: np.ndarray, config: LossConfig
) -> Array:
    """A batch without targets returns early, with zeros."""
    return right(terms, is_matched, config) if is_matched.any() else np.zeros(())


BACKGROUND_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-background-left-out",
        "CLASS",
        "Only matched queries are classified. Right: all queries, those without a target as background. Shows with "
        "more queries than targets.",
        f"{STEP_4}: sum over all B, Q, C",
        only(lambda is_matched: is_matched),
    ),
    Mutant(
        "plausible-empty-images-left-out",
        "CLASS",
        "Images without a target are not classified. Right: all their queries are background. Shows in a batch where "
        "only some images are empty.",
        f"{STEP_4}: sum over all B, Q, C",
        only(lambda is_matched: np.asarray(is_matched.any(axis=1, keepdims=True) | ~is_matched.any())),
    ),
    Mutant(
        "plausible-no-object-weight",
        "CLASS",
        "Queries without a target are weighted by the gain no_object, as DETR weighs its background class. Right: "
        "no_object is never read. Shows with more queries than targets.",
        "loss specification, DETRLoss: loss_gain",
        wrapped(TOTAL, lighter_background),
    ),
    Mutant(
        "plausible-no-class-loss-without-targets",
        "CLASS",
        "A batch without targets returns zeros, the classification loss among them. Right: every query of it is "
        "background. Shows in such a batch.",
        f"{STEP_4}: focal otherwise",
        wrapped(TOTAL, nothing_without_targets),
    ),
)
