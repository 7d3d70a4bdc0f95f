"""Mutants in the class term of the matching cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import MatcherConfig, replace_in
from detr_conformance.reference.classification import sigmoid, softplus
from detr_conformance.reference.matcher import PROBABILITY_EPS, Cost, softmax_class_cost
from detr_conformance.reference.rounding import plain

FOCAL, SOFTMAX = "matcher.class_costs.focal", "matcher.class_costs.softmax"


def with_options(options: Callable[[MatcherConfig], dict[str, Any]]) -> Change:
    """The focal cost is computed with other options than those of the matcher."""
    return wrapped(
        FOCAL, lambda right, logits, classes, config: right(logits, classes, replace(config, **options(config)))
    )


def positive_part_only(logits: np.ndarray, classes: np.ndarray, config: MatcherConfig) -> Cost:
    """What a positive would lose, alpha (1 - p)^gamma (-log p), without what the background loses now."""
    p = sigmoid(logits[:, classes])
    return config.alpha * (1.0 - p) ** config.gamma * -np.log(p + PROBABILITY_EPS)


def unbounded_logarithm(logits: np.ndarray, classes: np.ndarray, config: MatcherConfig) -> Cost:
    """The logarithms get the probability without 1e-8, by the log-sigmoid."""
    x = logits[:, classes]
    p = sigmoid(x)
    positive = config.alpha * (1.0 - p) ** config.gamma * softplus(-x)
    return positive - (1.0 - config.alpha) * p**config.gamma * softplus(x)


def next_column(right: Callable[..., Cost], logits: np.ndarray, classes: np.ndarray, config: MatcherConfig) -> Cost:
    """The logit of the class after the target's, as if the background were class 0."""
    return right(logits, (classes + 1) % logits.shape[-1], config)


def picked_by_matrix(
    right: Callable[..., Cost], logits: np.ndarray, classes: np.ndarray, config: MatcherConfig
) -> Cost:
    """The costs of all classes, times a matrix with a 1 for each target's class: a NaN is in every sum."""
    every = right(logits, np.arange(logits.shape[-1]), config)
    wanted = (np.arange(logits.shape[-1])[:, None] == classes).astype(np.float64)
    return np.sum(every[:, :, None] * wanted, axis=1)


def softmax_of_queries(logits: np.ndarray, classes: np.ndarray, _config: MatcherConfig) -> Cost:
    """The softmax runs over the queries instead of the classes, of each class for itself."""
    weights = np.exp(logits - plain(logits).max(axis=0))
    return -(weights / np.sum(weights, axis=0))[:, classes]


COST = "loss specification, HungarianMatcher: class cost"

CLASS_COST_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-class-cost-by-one-hot",
        "MATCH",
        "The cost of the target's class is picked by a product with a one-hot matrix, and a NaN in another class is in "
        "it. Right: it is indexed. Shows with a NaN in a class that no target has.",
        COST,
        wrapped(FOCAL, picked_by_matrix),
    ),
    Mutant(
        "hf-deformable-seg-softmax-matcher",
        "MATCH",
        "The matcher of a sigmoid head took probabilities by softmax. Right: the focal cost of each class's own "
        "sigmoid. Shows with several classes.",
        "huggingface/transformers 4.46 to 5.23.0, DeformableDetrForSegmentationLoss",
        lambda spec: replace_in(spec, FOCAL, softmax_class_cost),
    ),
    Mutant(
        "rfdetr-matcher-alpha-hardcoded",
        "MATCH",
        "The matcher took an alpha and used 0.25. Right: the one it was given. Shows with another alpha.",
        "roboflow/rf-detr, pull request 1147",
        with_options(lambda _config: {"alpha": 0.25}),
    ),
    Mutant(
        "hf-deformable-matcher-gamma-hardcoded",
        "MATCH",
        "The matcher used a gamma of 2 that nothing could change. Right: the one it was given. Shows with another "
        "gamma.",
        "huggingface/transformers, loss/loss_deformable_detr.py",
        with_options(lambda _config: {"gamma": 2.0}),
    ),
    Mutant(
        "plausible-cost-alpha-swapped",
        "MATCH",
        "Alpha weighs the negative part of the cost. Right: the positive part. Shows where logits decide.",
        COST,
        with_options(lambda config: {"alpha": 1.0 - config.alpha}),
    ),
    Mutant(
        "plausible-cost-without-negative-part",
        "MATCH",
        "The cost is the focal loss of a positive alone. Right: minus that of the background, which the query would "
        "no longer be. Shows where logits decide.",
        COST,
        lambda spec: replace_in(spec, FOCAL, positive_part_only),
    ),
    Mutant(
        "plausible-cost-minus-sigmoid",
        "MATCH",
        "The cost is minus the probability, by a sigmoid. Right: the focal cost. Shows where logits decide.",
        COST,
        lambda spec: replace_in(spec, FOCAL, lambda logits, classes, _config: -sigmoid(logits[:, classes])),
    ),
    Mutant(
        "rfdetr-cost-without-eps",
        "MATCH",
        "The cost is computed from the log-sigmoid, and grows with the logit. Right under this profile: the logarithm "
        "of p + 1e-8, which stops at 18. Shows beyond logits of 18.",
        "roboflow/rf-detr 1.2 and later, the matcher's class cost",
        lambda spec: replace_in(spec, FOCAL, unbounded_logarithm),
    ),
    Mutant(
        "plausible-class-column-off-by-one",
        "MATCH",
        "The cost of the next class is taken, as if the background were class 0. Right: class 0 is column 0. Shows "
        "with two classes.",
        COST,
        lambda spec: wrapped(FOCAL, next_column)(wrapped(SOFTMAX, next_column)(spec)),
    ),
    Mutant(
        "plausible-softmax-over-queries",
        "MATCH",
        "The softmax of the matcher's other class cost runs over the queries. Right: over the classes. Shows in a "
        "matcher without use_fl.",
        COST,
        lambda spec: replace_in(spec, SOFTMAX, softmax_of_queries),
    ),
)
