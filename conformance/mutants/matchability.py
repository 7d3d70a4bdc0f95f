"""Mutants of DEIM's matchability-aware loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, replace_in
from detr_conformance.reference.boxes import giou
from detr_conformance.reference.classification import Terms, label, score, sigmoid, unmatched_fade
from detr_conformance.reference.family import DEIM
from detr_conformance.reference.normaliser import per_matched_pair, per_query
from detr_conformance.reference.tape import stop_gradient

TARGET, WEIGHT = "class_terms.mal.target", "class_terms.mal.weight"
SECTION = "Huang et al., DEIM, arXiv 2412.04234, section 3.3"

Part = Callable[..., Terms]

mal_mutant = partial(Mutant, home=DEIM)


def squared(_right: Part, _x: Terms, y: Terms, q: Terms, _config: LossConfig) -> Terms:
    """q^2, whatever gamma is."""
    return q**2 * y


def rooted(_right: Part, _x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """q^(1 / gamma)."""
    return q ** (1.0 / config.gamma) * y if config.gamma > 0.0 else y


def also_of_matched(_right: Part, x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """p^gamma in every column."""
    return stop_gradient(sigmoid(x)) ** config.gamma * np.ones_like(y)


def by_score(_right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """Matched queries count q, as in the varifocal loss."""
    return stop_gradient(sigmoid(x)) ** config.gamma * (1.0 - y) + q


def balanced(_right: Part, x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """The background counts alpha, as in the varifocal loss."""
    return config.alpha * stop_gradient(sigmoid(x)) ** config.gamma * (1.0 - y) + y


def of_wrong(_right: Part, x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """(1 - p)^gamma: sure background counts most."""
    return stop_gradient(sigmoid(-x)) ** config.gamma * (1.0 - y) + y


def unfaded(_right: Part, _x: Terms, y: Terms, _q: Terms, _config: LossConfig) -> Terms:
    """All columns count alike."""
    return np.ones_like(y)


def powered_twice(right: Part, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """The weight is taken of a score that has been raised to gamma already, and raised again."""
    return right(x, y, q, replace(config, gamma=2.0 * config.gamma))


def detached_giou(boxes: Any, wanted: Any, guard: Any) -> Any:
    """The GIoU, at least 0, a constant."""
    return np.maximum(giou(stop_gradient(boxes), wanted, guard), 0.0)


MATCHABILITY_MUTANTS: tuple[Mutant, ...] = (
    mal_mutant(
        "plausible-mal-target-not-raised",
        "CLASS",
        "The target is q, as in the varifocal loss. Right: q^gamma. Shows on a match with some overlap.",
        SECTION,
        lambda spec: replace_in(spec, TARGET, score),
    ),
    mal_mutant(
        "plausible-mal-target-is-one",
        "CLASS",
        "The target of a matched query is 1. Right: q^gamma. Shows on a match whose box is not perfect.",
        SECTION,
        lambda spec: replace_in(spec, TARGET, label),
    ),
    mal_mutant(
        "plausible-mal-target-squared",
        "CLASS",
        "The target is q^2, whatever gamma is. Right: q^gamma. Shows with another gamma than 2.",
        SECTION,
        wrapped(TARGET, squared),
    ),
    mal_mutant(
        "plausible-mal-target-rooted",
        "CLASS",
        "The target is q^(1 / gamma). Right: q^gamma. Shows on a match with some overlap, unless gamma is 1.",
        SECTION,
        wrapped(TARGET, rooted),
    ),
    mal_mutant(
        "plausible-mal-fades-matched",
        "CLASS",
        "Matched queries fade with p^gamma too. Right: they count 1. Shows on any match.",
        SECTION,
        wrapped(WEIGHT, also_of_matched),
    ),
    mal_mutant(
        "plausible-mal-weighs-by-score",
        "CLASS",
        "Matched queries count q, as in the varifocal loss. Right: they count 1, so that bad matches are learnt from. "
        "Shows on a match whose box is not perfect.",
        SECTION,
        wrapped(WEIGHT, by_score),
    ),
    mal_mutant(
        "plausible-mal-keeps-alpha",
        "CLASS",
        "The background counts alpha, as in the varifocal loss. Right: MAL has no alpha. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, balanced),
    ),
    mal_mutant(
        "plausible-mal-fades-the-wrong-way",
        "CLASS",
        "The background fades with 1 - p. Right: with p. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, of_wrong),
    ),
    mal_mutant(
        "plausible-mal-without-fading",
        "CLASS",
        "The background has no weight. Right: p^gamma. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, unfaded),
    ),
    mal_mutant(
        "plausible-mal-gamma-twice",
        "CLASS",
        "The background fades with p^(2 gamma). Right: p^gamma. Shows in any background.",
        SECTION,
        wrapped(WEIGHT, powered_twice),
    ),
    mal_mutant(
        "plausible-mal-weight-not-detached",
        "GRAD",
        "The gradient flows through the weight of the background. Right: the weight is a constant. Shows in any "
        "gradient with respect to a background logit.",
        SECTION,
        lambda spec: replace_in(spec, WEIGHT, unmatched_fade),
    ),
    mal_mutant(
        "plausible-mal-by-giou",
        "CLASS",
        "The score is the GIoU. Right: the IoU. Shows on any match whose box is not perfect.",
        SECTION,
        lambda spec: replace_in(spec, "score", detached_giou),
    ),
    mal_mutant(
        "plausible-mal-over-pairs",
        "CLASS",
        "The loss is divided by the number of pairs. Right: by that of targets. Shows with fewer queries than targets.",
        SECTION,
        lambda spec: replace_in(spec, "normaliser.mal", per_matched_pair),
    ),
    mal_mutant(
        "plausible-mal-over-queries",
        "CLASS",
        "The loss is averaged over the queries. Right: divided by the number of targets. Shows wherever they differ.",
        SECTION,
        lambda spec: replace_in(spec, "normaliser.mal", per_query),
    ),
)
