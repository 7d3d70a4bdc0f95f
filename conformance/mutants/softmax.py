"""Mutants of DETR's softmax head: its cross-entropy, the weight of no object, and the matching cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig, LossSpec, MatcherConfig, replace_in
from detr_conformance.reference.classification import (
    NO_OBJECT_WEIGHT,
    Terms,
    binary_cross_entropy,
    cross_entropy,
    sigmoid,
)
from detr_conformance.reference.family import DETR
from detr_conformance.reference.matcher import Cost, softmax_class_cost
from detr_conformance.reference.normaliser import Tally, per_target
from detr_conformance.reference.rounding import plain

TERM = "class_terms.softmax"
COST = "matcher.class_costs.softmax"
NORMALISER = "normaliser.softmax"
SECTION = "Carion et al., DETR, arXiv 2005.12872, section 3.1 and appendix A.4"

softmax_mutant = partial(Mutant, home=DETR)


def all_alike(_right: Callable[..., Terms], _x: Terms, y: Terms, _q: Terms, _config: LossConfig) -> Terms:
    """No object counts as much as any class."""
    return np.ones_like(y)


def the_other_way(_right: Callable[..., Terms], _x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """Classes count a tenth, no object counts one."""
    return np.where(np.arange(y.shape[-1]) == config.nc, np.ones_like(y), NO_OBJECT_WEIGHT)


def on_first_column(_right: Callable[..., Terms], _x: Terms, y: Terms, _q: Terms, _config: LossConfig) -> Terms:
    """The first class has the weight of no object."""
    return np.where(np.arange(y.shape[-1]) == 0, NO_OBJECT_WEIGHT, np.ones_like(y))


def matched_only(_right: Callable[..., Terms], _x: Terms, y: Terms, _q: Terms, config: LossConfig) -> Terms:
    """A query without a target has no loss."""
    return np.where(np.arange(y.shape[-1]) == config.nc, 0.0, np.ones_like(y))


def of_every_column(x: Terms, y: Terms) -> Terms:
    """Every column is a binary problem of its own."""
    return binary_cross_entropy(x, y)


def without_no_object(x: Terms, y: Terms) -> Terms:
    """The softmax leaves out the last column, and background has no loss."""
    inner = cross_entropy(x[..., :-1], y[..., :-1]) if x.shape[-1] > 1 else x[..., :-1]
    return np.concatenate([inner, np.zeros((*x.shape[:-1], 1))], axis=-1)


def smoothed(x: Terms, y: Terms) -> Terms:
    """Labels are smoothed by a tenth."""
    return cross_entropy(x, 0.9 * y + 0.1 / y.shape[-1])


def mean_over_queries(tally: Tally) -> float:
    """All queries of the batch count 1 in the divisor."""
    return float(len(tally.pairs) * tally.queries)


def mean_over_matched(tally: Tally) -> float:
    """Only matched queries count in the divisor."""
    return float(max(sum(tally.pairs), 1))


def mean_of_images(tally: Tally) -> float:
    """The divisor of a single image, as if their losses were added."""
    return sum(tally.pairs) + NO_OBJECT_WEIGHT * (tally.queries - sum(tally.pairs))


def at_least_one(tally: Tally) -> float:
    """The sum of the weights, but at least 1, as mmdetection has it."""
    matched = sum(tally.pairs)
    return max(matched + NO_OBJECT_WEIGHT * (len(tally.pairs) * tally.queries - matched), 1.0)


def positive(right: Callable[..., Cost], *of_image: Any) -> Cost:
    """The probability itself: the surest query is the dearest."""
    return -right(*of_image)


def logarithm(right: Callable[..., Cost], *of_image: Any) -> Cost:
    """Minus the logarithm of the probability."""
    return -np.log(-right(*of_image) + 1e-8)


def among_classes(right: Callable[..., Cost], logits: np.ndarray, classes: np.ndarray, config: MatcherConfig) -> Cost:
    """The probability among the classes alone, without no object."""
    return right(logits[..., :-1], classes, config)


def own_sigmoid(_right: Callable[..., Cost], logits: np.ndarray, classes: np.ndarray, _config: MatcherConfig) -> Cost:
    """Minus the sigmoid of the target's class."""
    return -sigmoid(logits[:, classes])


def no_object_first(spec: LossSpec) -> LossSpec:
    """The first column is that of no object: class c is column c + 1."""

    def turned(term: Any, x: Terms, y: Terms, _q: Terms, _config: LossConfig) -> Terms:
        order = [-1, *range(y.shape[-1] - 1)]
        weights = np.where(np.arange(y.shape[-1]) == 0, NO_OBJECT_WEIGHT, 1.0)
        return weights * term.entropy(x, plain(y)[..., order])

    moved = replace_in(spec, f"{TERM}.terms", turned)
    return replace_in(moved, COST, lambda logits, classes, config: softmax_class_cost(logits, classes + 1, config))


def gains(**changed: float) -> Change:
    """The matcher with other gains."""

    def configured(right: Callable[[LossConfig], MatcherConfig], config: LossConfig) -> MatcherConfig:
        options = right(config)
        return replace(options, cost_gain=dict(options.cost_gain) | changed)

    return wrapped("matcher.configured", configured)


SOFTMAX_MUTANTS: tuple[Mutant, ...] = (
    softmax_mutant(
        "plausible-no-object-weight-missing",
        "CLASS",
        "A query without a target counts as much as one with a target. Right: a tenth. Shows with any such query.",
        SECTION,
        wrapped(f"{TERM}.weight", all_alike),
    ),
    softmax_mutant(
        "plausible-no-object-weight-on-classes",
        "CLASS",
        "The weight 0.1 is given to the classes, and 1 to no object. Right: the other way round. Shows where some "
        "queries are matched and some are not.",
        SECTION,
        wrapped(f"{TERM}.weight", the_other_way),
    ),
    softmax_mutant(
        "plausible-no-object-weight-on-first-class",
        "CLASS",
        "The vector of weights has its 0.1 in front. Right: in the last column. Shows with a target of class 0.",
        SECTION,
        wrapped(f"{TERM}.weight", on_first_column),
    ),
    softmax_mutant(
        "plausible-no-object-ignored",
        "CLASS",
        "Queries without a target have no classification loss. Right: no object is a class. Shows with any such query.",
        SECTION,
        wrapped(f"{TERM}.weight", matched_only),
    ),
    softmax_mutant(
        "plausible-sigmoid-in-detr",
        "CLASS",
        "Each of the C + 1 columns is a binary problem. Right: one softmax over all of them. Shows on any logits.",
        SECTION,
        lambda spec: replace_in(spec, f"{TERM}.entropy", of_every_column),
    ),
    softmax_mutant(
        "plausible-softmax-without-no-object",
        "CLASS",
        "The last column is cut off before the softmax. Right: the probability of no object takes part. Shows on any "
        "logits.",
        SECTION,
        lambda spec: replace_in(spec, f"{TERM}.entropy", without_no_object),
    ),
    softmax_mutant(
        "plausible-label-smoothing",
        "CLASS",
        "Labels are smoothed by 0.1. Right: one-hot. Shows on any logits.",
        SECTION,
        lambda spec: replace_in(spec, f"{TERM}.entropy", smoothed),
    ),
    softmax_mutant(
        "scenic-no-object-first",
        "CLASS",
        "Background is column 0, and the classes follow. Right under this profile: background is the last column. "
        "Shows on any logits.",
        "google-research/scenic, projects/baselines/detr/detr_base_model.py",
        no_object_first,
    ),
    softmax_mutant(
        "scenic-class-loss-over-targets",
        "CLASS",
        "The classification loss is divided by the number of targets. Right: by the sum of the weights of all queries. "
        "Shows wherever the two differ.",
        "google-research/scenic, projects/baselines/detr/detr_base_model.py",
        lambda spec: replace_in(spec, NORMALISER, per_target),
    ),
    softmax_mutant(
        "plausible-plain-mean-of-weighted-terms",
        "CLASS",
        "The weighted terms are averaged over all queries. Right: divided by the sum of their weights, as "
        "torch.nn.functional.cross_entropy does. Shows with any query without a target.",
        SECTION,
        lambda spec: replace_in(spec, NORMALISER, mean_over_queries),
    ),
    softmax_mutant(
        "plausible-mean-over-matched-queries",
        "CLASS",
        "The divisor counts matched queries alone. Right: the others count a tenth each. Shows with any of those.",
        SECTION,
        lambda spec: replace_in(spec, NORMALISER, mean_over_matched),
    ),
    softmax_mutant(
        "plausible-weighted-mean-of-one-image",
        "CLASS",
        "The divisor is that of one image, whatever the size of the batch. Right: of the batch. Shows with two images.",
        SECTION,
        lambda spec: replace_in(spec, NORMALISER, mean_of_images),
    ),
    softmax_mutant(
        "mmdet-weighted-mean-clamped",
        "CLASS",
        "The sum of the weights is taken as 1 where it is smaller. Right under this profile: as it is. Shows with "
        "few queries none of which has a target.",
        "open-mmlab/mmdetection, mmdet/models/dense_heads/detr_head.py",
        lambda spec: replace_in(spec, NORMALISER, at_least_one),
    ),
    softmax_mutant(
        "plausible-class-cost-by-sign",
        "MATCH",
        "The class cost is the probability. Right: minus the probability. Shows in any matching.",
        SECTION,
        wrapped(COST, positive),
    ),
    softmax_mutant(
        "plausible-class-cost-in-logarithms",
        "MATCH",
        "The class cost is minus the logarithm of the probability. Right: of the probability itself, so that it is of "
        "one size with the box costs. Shows in a matching that is nearly even.",
        SECTION,
        wrapped(COST, logarithm),
    ),
    softmax_mutant(
        "plausible-class-cost-without-no-object",
        "MATCH",
        "The last column is cut off before the softmax of the class cost. Right: the probability of no object takes "
        "part. Shows in a matching that is nearly even.",
        SECTION,
        wrapped(COST, among_classes),
    ),
    softmax_mutant(
        "plausible-class-cost-by-sigmoid",
        "MATCH",
        "The class cost is minus the sigmoid. Right: minus the softmax. Shows in a matching that is nearly even.",
        SECTION,
        wrapped(COST, own_sigmoid),
    ),
    softmax_mutant(
        "plausible-deformable-gains-in-detr",
        "MATCH",
        "The matcher has the class gain 2, as Deformable DETR's. Right: 1. Shows in a matching that is nearly even.",
        SECTION,
        gains(**{"class": 2.0}),
    ),
)
