"""Mutants in the terms of the focal loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.classification import Terms, balance

FORMULA = "loss specification, DETRLoss, step 4: focal"
WEIGHT = "class_terms.focal.weight"


def balanced(a_t: Callable[[Terms, float], Terms | float]) -> Change:
    """The focal weight with another a_t, from y and alpha. With alpha = 0 the right weight has none."""
    return wrapped(WEIGHT, lambda right, x, y, q, c: a_t(y, c.alpha) * right(x, y, q, replace(c, alpha=0.0)))


def fading(as_if: Callable[[Terms, Terms], Terms]) -> Change:
    """The focal weight that another logit would have, from x and y."""
    return wrapped(WEIGHT, lambda right, x, y, q, c: right(as_if(x, y), y, q, c))


def shifted_arguments(spec: LossSpec) -> LossSpec:
    """Alpha is taken for the number of boxes, and gamma for alpha."""
    terms = wrapped(
        "class_terms.focal.terms",
        lambda right, term, x, y, q, c: right(term, x, y, q, replace(c, alpha=c.gamma, gamma=2.0)) / c.alpha,
    )
    return replace_in(terms(spec), "normaliser.focal", lambda _tally: 1.0)


FOCAL_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "hf-focal-argument-shift",
        "CLASS",
        "The focal loss was called by position with one argument missing: alpha was taken for the number of boxes, "
        "gamma for alpha, and gamma was its default, 2. Right: keyword arguments. Shows in any focal loss.",
        "huggingface/transformers 4.44.2 to 5.23.0, RTDetrLoss.loss_labels_focal, pull request 32658",
        shifted_arguments,
    ),
    Mutant(
        "rtdetrv3-focal-constant-alpha",
        "CLASS",
        "Alpha weighed target and background alike. Right: alpha for the target's class, 1 - alpha for the others. "
        "Shows for any alpha but 0.5.",
        "yyq19990828/RT-DETRv3-PyTorch, commit 77920d2, focal loss of the criterion",
        balanced(lambda _y, alpha: alpha),
    ),
    Mutant(
        "plausible-focal-alpha-swapped",
        "CLASS",
        "Alpha weighs the background and 1 - alpha the target. Right: the other way round. Shows for any alpha but "
        "0.5.",
        FORMULA,
        balanced(lambda y, alpha: balance(1.0 - y, alpha)),
    ),
    Mutant(
        "plausible-focal-negative-alpha",
        "CLASS",
        "A negative alpha, which asks for no balance, makes the terms of the targets negative. Right: no factor at all "
        "where alpha is 0 or less. Shows with alpha = -1.",
        FORMULA,
        balanced(lambda y, alpha: alpha * y + (1.0 - alpha) * (1.0 - y)),
    ),
    Mutant(
        "plausible-focal-fades-what-is-wrong",
        "CLASS",
        "The factor is p_t to the power of gamma. Right: 1 - p_t, so that right answers fade out and not wrong ones. "
        "Shows for any gamma but 0.",
        FORMULA,
        fading(lambda x, _y: -x),
    ),
    Mutant(
        "plausible-focal-p-for-p_t",
        "CLASS",
        "The factor is 1 - p everywhere, so that in the background the wrong answers fade out. Right: 1 - p_t, which "
        "is p there. Shows for any gamma but 0.",
        FORMULA,
        fading(lambda x, y: np.where(y == 1, x, -x)),
    ),
)
