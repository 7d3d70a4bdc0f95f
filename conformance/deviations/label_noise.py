"""Deviations in the labels of denoising queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.generator import Generated, Generator, cdn_group, filled, repeated
from detr_conformance.reference.denoising import noisy_labels

Noise = Callable[[np.ndarray, int, float, int, np.random.Generator], np.ndarray]
"""Labels out of classes, number of classes, cls_noise_ratio, 0 for positives or 1 for negatives, and randomness."""


def labelled(noise: Noise) -> Generator:
    """The generator with other noise on its labels."""

    def generate(
        batch: Any,
        classes: int,
        queries: int,
        embed: Any,
        cls_noise_ratio: float = 0.5,
        rng: Any = None,
        **options: Any,
    ) -> Generated:
        rng = np.random.default_rng(rng)
        labels, *others = cdn_group(batch, classes, queries, embed, cls_noise_ratio=0.0, rng=rng, **options)
        meta = others[-1]
        for image, half, slots in filled(meta) if labels is not None else ():
            own = np.tile(batch["cls"][meta["dn_gt_idx"][image]], meta["dn_num_group"])
            labels[image, slots] = embed[noise(own, classes, cls_noise_ratio, half, rng)]
        return labels, *others

    return generate


def to_another(labels: np.ndarray, classes: int, ratio: float, _half: int, rng: np.random.Generator) -> np.ndarray:
    """A flipped label is never the right one."""
    flipped = rng.random(len(labels)) < ratio / 2
    return np.where(flipped, (labels + 1 + rng.integers(max(classes - 1, 1), size=len(labels))) % classes, labels)


def positives_alone(labels: np.ndarray, classes: int, ratio: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Negatives keep their labels."""
    return noisy_labels(labels, classes, 0.0 if half else ratio, rng)


def next_class(labels: np.ndarray, classes: int, ratio: float, _half: int, rng: np.random.Generator) -> np.ndarray:
    """Labels count from 1."""
    return (noisy_labels(labels, classes, ratio, rng) + 1) % classes


def negatives_unlabelled(*args: Any, **options: Any) -> Generated:
    """Zeros for the labels of negatives."""
    labels, boxes, blocked, meta = cdn_group(*args, **options)
    for image, half, slots in filled(meta) if labels is not None else ():
        labels[image, slots] *= 1 - half
    return labels, boxes, blocked, meta


LABELS = "loss specification, get_cdn_group: labels"

LABEL_NOISE_DEVIATIONS = (
    Deviation(
        "plausible-label-noise-not-halved",
        "DN",
        "A label is replaced with probability cls_noise_ratio. Right: half of it. Shows over many labels.",
        LABELS,
        generator=labelled(lambda labels, classes, ratio, _half, rng: noisy_labels(labels, classes, 2 * ratio, rng)),
    ),
    Deviation(
        "plausible-label-noise-to-another-class",
        "DN",
        "A label is replaced by another one. Right: by any class, the right one included. Shows over many labels.",
        LABELS,
        generator=labelled(to_another),
    ),
    Deviation(
        "plausible-label-noise-on-positives",
        "DN",
        "Labels of positives alone are replaced. Right: those of negatives, too. Shows over many labels.",
        LABELS,
        generator=labelled(positives_alone),
    ),
    Deviation(
        "plausible-label-noise-missing",
        "DN",
        "No label is replaced. Right: half of cls_noise_ratio are. Shows over many labels.",
        LABELS,
        generator=labelled(lambda labels, _classes, _ratio, _half, _rng: labels),
    ),
    Deviation(
        "plausible-label-noise-same-in-all-groups",
        "DN",
        "The labels of the first group are repeated in the others. Right: drawn anew. Shows over many groups.",
        LABELS,
        generator=repeated(0),
    ),
    Deviation(
        "plausible-denoising-labels-from-one",
        "DN",
        "The embedding of the next class is taken. Right: class 0 is row 0. Shows with two classes.",
        LABELS,
        generator=labelled(next_class),
    ),
    Deviation(
        "plausible-negatives-unlabelled",
        "DN",
        "Negatives carry no label. Right: that of their target. Shows with one target.",
        LABELS,
        generator=negatives_unlabelled,
    ),
)
