"""Mutants in the labels of denoising queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from detr_conformance.mutants.generator import altered, generating, repeated
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import replace_in
from detr_conformance.reference.denoising import Generated


def to_another(labels: np.ndarray, classes: int, ratio: float, _half: int, rng: np.random.Generator) -> np.ndarray:
    """A flipped label is never the right one."""
    flipped = rng.random(len(labels)) < ratio / 2
    return np.where(flipped, (labels + 1 + rng.integers(max(classes - 1, 1), size=len(labels))) % classes, labels)


def negatives_unlabelled(
    labels: np.ndarray, boxes: np.ndarray, blocked: np.ndarray, meta: Mapping[str, Any], _embed: np.ndarray
) -> Generated:
    """Zeros for the labels of negatives."""
    slots = labels.shape[1]
    half = np.arange(slots) * 2 * meta["dn_num_group"] // slots % 2
    return labels * (1 - half)[:, None], boxes, blocked, meta


LABELS = "loss specification, get_cdn_group: labels"

LABEL_NOISE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-label-noise-not-halved",
        "DN",
        "A label is replaced with probability cls_noise_ratio. Right: half of it. Shows over many labels.",
        LABELS,
        generating(
            "labels", lambda right, labels, classes, ratio, half, rng: right(labels, classes, 2 * ratio, half, rng)
        ),
    ),
    Mutant(
        "plausible-label-noise-to-another-class",
        "DN",
        "A label is replaced by another one. Right: by any class, the right one included. Shows over many labels.",
        LABELS,
        lambda spec: replace_in(spec, "denoising.generator.labels", to_another),
    ),
    Mutant(
        "plausible-label-noise-on-positives",
        "DN",
        "Labels of positives alone are replaced. Right: those of negatives, too. Shows over many labels.",
        LABELS,
        generating(
            "labels",
            lambda right, labels, classes, ratio, half, rng: right(labels, classes, 0.0 if half else ratio, half, rng),
        ),
    ),
    Mutant(
        "plausible-label-noise-missing",
        "DN",
        "No label is replaced. Right: half of cls_noise_ratio are. Shows over many labels.",
        LABELS,
        generating("labels", lambda _right, labels, *_: labels),
    ),
    Mutant(
        "plausible-label-noise-same-in-all-groups",
        "DN",
        "The labels of the first group are repeated in the others. Right: drawn anew. Shows over many groups.",
        LABELS,
        repeated(0),
    ),
    Mutant(
        "plausible-denoising-labels-from-one",
        "DN",
        "The embedding of the next class is taken. Right: class 0 is row 0. Shows with two classes.",
        LABELS,
        generating("labels", lambda right, labels, classes, *others: (right(labels, classes, *others) + 1) % classes),
    ),
    Mutant(
        "plausible-negatives-unlabelled",
        "DN",
        "Negatives carry no label. Right: that of their target. Shows with one target.",
        LABELS,
        altered(negatives_unlabelled),
    ),
)
