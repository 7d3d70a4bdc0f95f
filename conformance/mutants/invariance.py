"""Mutants that a change of the input brings to light: order, numbering, and what a batch is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, LossSpec
from detr_conformance.reference.layers import Layer, summed
from detr_conformance.reference.matcher import Matching, Targets
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.tape import Array

Labels = Callable[..., np.ndarray]
Layered = Callable[..., dict[str, Array]]


def within_image(matching: Sequence[Matching], targets: Targets) -> list[Matching]:
    """Target indices that count within each image."""
    return [(queries, chosen - targets.of_image(image).start) for image, (queries, chosen) in enumerate(matching)]


def offset_forgotten(
    right: Layered, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Array]:
    """Target indices that count within each image are used on the targets of the whole batch."""
    wrong = Pairs(*(within_image(matching, targets) for matching in pairs))
    return right(spec, config, layer, wrong, targets, tally)


def mean_of_images(
    right: Layered, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Array]:
    """Every image is divided by its own pairs, and the images are averaged."""
    shares = []
    for image in range(len(pairs.boxes)):
        own = slice(image, image + 1)
        alone = layer.map(itemgetter(own)), Pairs(*(each[own] for each in pairs))
        shares.append(right(spec, config, *alone, targets, replace(tally, targets=tally.targets[own])))
    return {term: summed([share[term] for share in shares]) / len(shares) for term in shares[0]}


def first_query_erased(right: Labels, pairs: Sequence[Matching], targets: Targets, *sizes: int) -> np.ndarray:
    """Padded pairs point to query 0 of image 0, which becomes background."""
    labels, (*_, background) = right(pairs, targets, *sizes), sizes
    if len({len(queries) for queries, _ in pairs}) > 1:
        labels[0, 0] = background
    return labels


def first_class_is_background(right: Labels, *args: Any) -> np.ndarray:
    """Class 0 is the background."""
    labels, (*_, background) = right(*args), args
    return np.where(labels == 0, background, labels)


INVARIANCE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "khub-missing-target-offset",
        "INV",
        "Target indices of each image were used on the concatenated targets without the image's offset: later images "
        "were supervised by the first one's targets. Right: add the offset. Shows in a batch of two.",
        "keras-team/keras-hub, models/d_fine/d_fine_loss.py",
        wrapped("layer", offset_forgotten),
    ),
    Mutant(
        "khub-padding-scatter-clobbers-query0",
        "INV",
        "Pairs that fill up images with fewer targets were all written to query 0 of image 0, whose target became "
        "background. Right: nowhere. Shows where that query is matched and images have different numbers of targets.",
        "keras-team/keras-hub, d_fine_loss.py, _get_source_permutation_idx",
        wrapped("labels", first_query_erased),
    ),
    Mutant(
        "plausible-class-0-is-background",
        "INV",
        "Class 0 is taken for the background, as where labels are padded with zeros. Right: no class is. Shows when "
        "classes are renamed.",
        "loss specification, DETRLoss, step 3: target class",
        wrapped("labels", first_class_is_background),
    ),
    Mutant(
        "plausible-mean-over-images",
        "INV",
        "Every image is divided by its own number of pairs, and the images are averaged. Right: all pairs of the batch "
        "count alike. Shows where images have different numbers of targets.",
        "loss specification, DETRLoss, step 2: matched pairs in this call",
        wrapped("layer", mean_of_images),
    ),
)
