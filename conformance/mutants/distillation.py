"""Mutants of D-FINE's decoupled distillation of distributions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.localisation import live_iou, one
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import replace_in, wrap_in
from detr_conformance.reference.distributions import (
    SIDES,
    TEMPERATURE,
    confidence,
    distillation_loss,
    divergence,
    log_softmax,
    mean_of,
)
from detr_conformance.reference.family import DEIM, DFINE
from detr_conformance.reference.normaliser import per_matched_pair
from detr_conformance.reference.rounding import arithmetic_of, track
from detr_conformance.reference.tape import Array, stop_gradient
from detr_conformance.reference.terms import TermInputs

EQUATION = "Peng et al., D-FINE, arXiv 2410.13842, equation 9"
SOFTENING = "Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2"
TERM = "extra_terms.ddf"

Counts = tuple[int, int]

ddf_mutant = partial(Mutant, family="DIST", home=DFINE)


def made_of(**parts: Any) -> Change:
    """The term with other parts."""
    return lambda spec: wrap_in(spec, f"{TERM}.total", lambda total: replace(total, **parts))


def live_teacher(given: TermInputs) -> Array:
    """The distributions of the last layer, with their gradient."""
    return given.last.further["corners"]


def not_scaled(logits: Array, teacher: Array) -> Array:
    """The divergence without T^2."""
    return divergence(logits, teacher) / TEMPERATURE**2


def not_softened(logits: Array, teacher: Array) -> Array:
    """At temperature 1."""
    return divergence(logits, teacher, temperature=1.0)


def not_softened_but_scaled(logits: Array, teacher: Array) -> Array:
    """At temperature 1, times T^2."""
    return TEMPERATURE**2 * divergence(logits, teacher, temperature=1.0)


def sharp_teacher(logits: Array, teacher: Array) -> Array:
    """Only the pupil's distribution is softened."""
    return divergence(logits, teacher * TEMPERATURE)


def cross_entropy_alone(logits: Array, teacher: Array) -> Array:
    """The cross-entropy with the teacher's distribution, without its own entropy."""
    log_p, q = log_softmax(logits / TEMPERATURE), np.exp(log_softmax(teacher / TEMPERATURE))
    return TEMPERATURE**2 * -np.sum(q * log_p, axis=-1)


def from_the_teacher(logits: Array, teacher: Array) -> Array:
    """The divergence of the teacher's distribution from the one that is taught."""
    return divergence(teacher, logits)


def mean_over_bins(logits: Array, teacher: Array) -> Array:
    """A mean over bins instead of their sum."""
    return divergence(logits, teacher) / logits.shape[-1]


def one_each(given: TermInputs) -> Array:
    """Other queries all alike."""
    return track(np.ones(given.last.logits.shape[:2]), arithmetic_of(given.last.logits))


def none_at_all(given: TermInputs) -> Array:
    """Other queries count nothing."""
    return one_each(given) * 0.0


def own_confidence(given: TermInputs) -> Array:
    """The confidence of the layer itself."""
    return confidence(stop_gradient(given.layer.logits))


def live_confidence(given: TermInputs) -> Array:
    """The confidence of the last layer, with its gradient."""
    return confidence(given.last.logits)


def least_confidence(given: TermInputs) -> Array:
    """The smallest probability of any class."""
    return 1.0 - confidence(-stop_gradient(given.last.logits))


def by_counts(of_sides: Array, is_matched: np.ndarray, counts: Counts) -> Array:
    """The two means weighted by their counts, without the roots."""
    matched, others = mean_of(of_sides, is_matched), mean_of(of_sides, ~is_matched)
    return (counts[0] * matched + counts[1] * others) / (counts[0] + counts[1])


def half_and_half(of_sides: Array, is_matched: np.ndarray, _counts: Counts) -> Array:
    """The mean of the two means."""
    return (mean_of(of_sides, is_matched) + mean_of(of_sides, ~is_matched)) / 2.0


def roots_exchanged(of_sides: Array, is_matched: np.ndarray, counts: Counts) -> Array:
    """Each mean with the root of the other's count."""
    matched, others = (np.sqrt(float(count)) for count in counts)
    total = others * mean_of(of_sides, is_matched) + matched * mean_of(of_sides, ~is_matched)
    return total / (matched + others)


def summed_over_sides(of_sides: Array, is_matched: np.ndarray, counts: Counts) -> Array:
    """Four times as much."""
    return distillation_loss(of_sides, is_matched, counts) * float(SIDES)


DISTILLATION_MUTANTS: tuple[Mutant, ...] = (
    ddf_mutant(
        "plausible-ddf-teacher-not-detached",
        story="The last layer learns from those that it teaches. Right: its distributions are constants. Shows in the "
        "gradient with respect to the last layer alone.",
        link=EQUATION,
        change=made_of(teacher=live_teacher),
    ),
    ddf_mutant(
        "plausible-ddf-not-scaled",
        story="The divergence is not multiplied by the square of the temperature. Right: by 25. Shows everywhere.",
        link=SOFTENING,
        change=made_of(divergence=not_scaled),
    ),
    ddf_mutant(
        "plausible-ddf-temperature-one",
        story="Distributions are compared as they are. Right: at temperature 5. Shows everywhere.",
        link=SOFTENING,
        change=made_of(divergence=not_softened),
    ),
    ddf_mutant(
        "plausible-ddf-temperature-one-scaled",
        story="Distributions are compared as they are, and scaled as if they were softened. Right: at temperature 5. "
        "Shows everywhere.",
        link=SOFTENING,
        change=made_of(divergence=not_softened_but_scaled),
        home=DEIM,
    ),
    ddf_mutant(
        "plausible-ddf-sharp-teacher",
        story="Only the pupil's distribution is softened. Right: both, so that equal logits have nothing to learn. "
        "Shows everywhere.",
        link=SOFTENING,
        change=made_of(divergence=sharp_teacher),
    ),
    ddf_mutant(
        "plausible-ddf-cross-entropy",
        story="The cross-entropy with the teacher's distribution. Right: the divergence, which is less by the "
        "teacher's entropy. Shows in the value alone: the gradients are the same.",
        link=EQUATION,
        change=made_of(divergence=cross_entropy_alone),
        home=DEIM,
    ),
    ddf_mutant(
        "plausible-ddf-other-direction",
        story="The teacher's divergence from the pupil. Right: the pupil's from its teacher: the teacher's "
        "probabilities weigh the bins. Shows almost everywhere.",
        link=EQUATION,
        change=made_of(divergence=from_the_teacher),
    ),
    ddf_mutant(
        "plausible-ddf-mean-over-bins",
        story="A mean over bins, as a library's default reduction gives it. Right: their sum. Shows everywhere.",
        link=EQUATION,
        change=made_of(divergence=mean_over_bins),
    ),
    ddf_mutant(
        "plausible-ddf-iou-not-detached",
        story=(
            "The IoU that weighs a matched query is not detached. Right: a constant. Shows in the gradient with "
            "respect to boxes."
        ),
        link=EQUATION,
        change=made_of(matched_weight=live_iou),
    ),
    ddf_mutant(
        "plausible-ddf-without-iou",
        story="Matched queries all count 1. Right: their IoU. Shows wherever that is not 1.",
        link=EQUATION,
        change=made_of(matched_weight=one),
    ),
    ddf_mutant(
        "plausible-ddf-without-confidence",
        story="Other queries all count 1. Right: the confidence of the last layer. Shows everywhere.",
        link=EQUATION,
        change=made_of(other_weight=one_each),
    ),
    ddf_mutant(
        "plausible-ddf-matched-alone",
        story="Queries without a target learn nothing. Right: they learn as much as the last layer is sure. Shows "
        "where there is one.",
        link=EQUATION,
        change=made_of(other_weight=none_at_all),
        home=DEIM,
    ),
    ddf_mutant(
        "plausible-ddf-own-confidence",
        story="Other queries are weighed by the confidence of the layer that is taught. Right: by that of the last. "
        "Shows wherever the two differ.",
        link=EQUATION,
        change=made_of(other_weight=own_confidence),
    ),
    ddf_mutant(
        "plausible-ddf-confidence-not-detached",
        story="The confidence is not detached: the last layer becomes unsure where others differ from it. Right: a "
        "constant. Shows in the gradient with respect to logits alone.",
        link=EQUATION,
        change=made_of(other_weight=live_confidence),
    ),
    ddf_mutant(
        "plausible-ddf-least-confidence",
        story="The smallest probability of any class is the confidence. Right: the largest. Shows with two classes.",
        link=EQUATION,
        change=made_of(other_weight=least_confidence),
    ),
    ddf_mutant(
        "plausible-ddf-counts-not-rooted",
        story="The two means are weighted by their counts: it is one mean over all. Right: by the roots of the counts. "
        "Shows where there are both kinds of queries, and not as many.",
        link=EQUATION,
        change=made_of(loss=by_counts),
    ),
    ddf_mutant(
        "plausible-ddf-half-and-half",
        story="Both means count a half. Right: by the roots of their counts. Shows where these differ.",
        link=EQUATION,
        change=made_of(loss=half_and_half),
        home=DEIM,
    ),
    ddf_mutant(
        "plausible-ddf-roots-exchanged",
        story="The mean over matched queries has the root of the number of the others. Right: of their own. Shows "
        "where these differ.",
        link=EQUATION,
        change=made_of(loss=roots_exchanged),
    ),
    ddf_mutant(
        "plausible-ddf-own-pairs",
        story="Each layer takes those for matched that it matches itself. Right: those of the vote of all layers. "
        "Shows where two layers match otherwise.",
        link="Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py: indices of the union",
        change=lambda spec: replace_in(spec, f"{TERM}.pairs", "classes"),
    ),
    ddf_mutant(
        "plausible-ddf-over-pairs",
        story="The loss is divided by the number of pairs besides. Right: it is made of means. Shows with two pairs.",
        link=EQUATION,
        change=lambda spec: replace_in(spec, f"{TERM}.normaliser", per_matched_pair),
    ),
    ddf_mutant(
        "plausible-ddf-sum-over-sides",
        story="The sum over the four sides. Right: their mean. Shows everywhere.",
        link=EQUATION,
        change=made_of(loss=summed_over_sides),
    ),
)
