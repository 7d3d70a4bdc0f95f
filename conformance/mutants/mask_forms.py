"""Mutants in the formulas of the two losses of masks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from detr_conformance.mutants.masks import form_of, mask_mutant
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference.classification import balance, binary_cross_entropy, sigmoid, truth
from detr_conformance.reference.masks import ALPHA, OfMap, dice_loss, mask_loss
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, stop_gradient

Logits = Float[Array, "pairs height width"]
Objects = Float[np.ndarray, "pairs height width"]
PIXELS = (-2, -1)


def _mean(terms: Array) -> OfMap:
    return np.sum(terms, axis=PIXELS) / (terms.shape[-2] * terms.shape[-1])


def alpha_swapped(x: Logits, t: Objects) -> OfMap:
    """Pixels of the object weigh 0.75, those beside it 0.25."""
    return _mean(balance(t, 1.0 - ALPHA) * (1.0 - truth(x, t)) ** 2.0 * binary_cross_entropy(x, t))


def without_alpha(x: Logits, t: Objects) -> OfMap:
    """All pixels weigh 1."""
    return _mean((1.0 - truth(x, t)) ** 2.0 * binary_cross_entropy(x, t))


def alpha_everywhere(x: Logits, t: Objects) -> OfMap:
    """All pixels weigh 0.25."""
    return _mean(ALPHA * (1.0 - truth(x, t)) ** 2.0 * binary_cross_entropy(x, t))


def plain_entropy(x: Logits, t: Objects) -> OfMap:
    """The focal weight is left out."""
    return _mean(binary_cross_entropy(x, t))


def gamma_of_one(x: Logits, t: Objects) -> OfMap:
    """The exponent is 1."""
    return _mean(balance(t, ALPHA) * (1.0 - truth(x, t)) * binary_cross_entropy(x, t))


def weight_detached(x: Logits, t: Objects) -> OfMap:
    """No gradient flows through the focal weight."""
    return _mean(balance(t, ALPHA) * (1.0 - truth(stop_gradient(x), t)) ** 2.0 * binary_cross_entropy(x, t))


def sum_over_pixels(x: Logits, t: Objects) -> OfMap:
    """Pixels are added up."""
    return mask_loss(x, t) * (x.shape[-2] * x.shape[-1])


def mean_over_rows(x: Logits, t: Objects) -> OfMap:
    """The sum is divided by the height alone."""
    return mask_loss(x, t) * x.shape[-1]


def mean_over_object(x: Logits, t: Objects) -> OfMap:
    """The sum is divided by the number of pixels of the object."""
    pixels = np.maximum(np.sum(t, axis=PIXELS), 1.0)
    return mask_loss(x, t) * (x.shape[-2] * x.shape[-1]) / pixels


def _overlap(p: Array, t: Objects, more: float = 1.0, below: float = 1.0, twice: float = 2.0) -> OfMap:
    overlap, either = np.sum(p * t, axis=PIXELS), np.sum(p, axis=PIXELS) + np.sum(t, axis=PIXELS)
    return (twice * overlap + more) / (either + below)


def without_one(x: Logits, t: Objects) -> OfMap:
    """Nothing is added but 1e-6 below."""
    return 1.0 - _overlap(sigmoid(x), t, more=0.0, below=1e-6)


def one_below_missing(x: Logits, t: Objects) -> OfMap:
    """1 is added above alone."""
    return 1.0 - _overlap(sigmoid(x), t, below=1e-6)


def one_above_missing(x: Logits, t: Objects) -> OfMap:
    """1 is added below alone."""
    return 1.0 - _overlap(sigmoid(x), t, more=0.0)


def of_logits(x: Logits, t: Objects) -> OfMap:
    """The sigmoid is left out, and negative logits are taken as 0."""
    return 1.0 - _overlap(np.maximum(x, 0.0), t)


def factor_missing(x: Logits, t: Objects) -> OfMap:
    """The overlap counts once."""
    return 1.0 - _overlap(sigmoid(x), t, twice=1.0)


def of_squares(x: Logits, t: Objects) -> OfMap:
    """Squares below, as V-Net has them."""
    p = sigmoid(x)
    either = np.sum(p * p, axis=PIXELS) + np.sum(t, axis=PIXELS)
    return 1.0 - (2.0 * np.sum(p * t, axis=PIXELS) + 1.0) / (either + 1.0)


def jaccard(x: Logits, t: Objects) -> OfMap:
    """The overlap is taken off the denominator."""
    p = sigmoid(x)
    overlap = np.sum(p * t, axis=PIXELS)
    return 1.0 - (overlap + 1.0) / (np.sum(p, axis=PIXELS) + np.sum(t, axis=PIXELS) - overlap + 1.0)


def score(x: Logits, t: Objects) -> OfMap:
    """The coefficient itself."""
    return _overlap(sigmoid(x), t)


def of_hard_masks(x: Logits, t: Objects) -> OfMap:
    """Pixels above 0 count 1, the others 0; the gradient is that of the right loss."""
    hard = 1.0 - _overlap((plain(x) > 0.0).astype(np.float64), t)
    right = dice_loss(x, t)
    return right + (hard - plain(right))


def of_all_pairs(x: Logits, t: Objects) -> OfMap:
    """The pixels of all pairs are one mask, whose loss every pair has a share in."""
    if not len(x):
        return dice_loss(x, t)
    p = sigmoid(x)
    return (1.0 - (2.0 * np.sum(p * t) + 1.0) / (np.sum(p) + np.sum(t) + 1.0)) * np.ones(len(x))


MASK_FORM_MUTANTS: tuple[Mutant, ...] = (
    mask_mutant(
        "plausible-mask-alpha-swapped",
        "Alpha weighs the background by 0.25 and the object by 0.75. Right: the other way round. Shows on any mask.",
        form_of("mask", alpha_swapped),
    ),
    mask_mutant(
        "plausible-mask-without-alpha",
        "The focal loss of masks has no alpha. Right: 0.25. Shows on any mask.",
        form_of("mask", without_alpha),
    ),
    mask_mutant(
        "plausible-mask-alpha-everywhere",
        "Object and background weigh 0.25. Right: the background weighs 0.75. Shows in any background.",
        form_of("mask", alpha_everywhere),
    ),
    mask_mutant(
        "plausible-mask-plain-entropy",
        "Masks have the binary cross-entropy. Right under this profile: the focal loss. Shows on any mask.",
        form_of("mask", plain_entropy),
    ),
    mask_mutant(
        "plausible-mask-gamma-of-one",
        "The exponent of the focal loss of masks is 1. Right: 2. Shows on any mask.",
        form_of("mask", gamma_of_one),
    ),
    mask_mutant(
        "plausible-mask-weight-detached",
        "The focal weight of masks is a constant. Right: the gradient flows through it. Shows on any mask.",
        form_of("mask", weight_detached),
    ),
    mask_mutant(
        "plausible-mask-summed-over-pixels",
        "The focal loss is added up over pixels. Right: averaged. Shows with two pixels.",
        form_of("mask", sum_over_pixels),
    ),
    mask_mutant(
        "plausible-mask-mean-over-rows",
        "The mean is over one axis, and a sum over the other. Right: over both. Shows with two columns.",
        form_of("mask", mean_over_rows),
    ),
    mask_mutant(
        "plausible-mask-mean-over-object",
        "The focal loss is divided by the pixels of the object. Right: by all pixels. Shows in any background.",
        form_of("mask", mean_over_object),
    ),
    mask_mutant(
        "plausible-dice-without-one",
        "Dice has no 1 above and below. Right: 1 in both. Shows on any mask, most on empty ones.",
        form_of("dice", without_one),
    ),
    mask_mutant(
        "plausible-dice-one-below-missing",
        "Dice has no 1 below. Right: above and below. Shows on any mask.",
        form_of("dice", one_below_missing),
    ),
    mask_mutant(
        "plausible-dice-one-above-missing",
        "Dice has no 1 above. Right: above and below. Shows on any mask.",
        form_of("dice", one_above_missing),
    ),
    mask_mutant(
        "plausible-dice-of-logits",
        "Dice is taken of logits. Right: of their sigmoids. Shows on any mask.",
        form_of("dice", of_logits),
    ),
    mask_mutant(
        "plausible-dice-factor-missing",
        "The overlap counts once. Right: twice. Shows where there is some.",
        form_of("dice", factor_missing),
    ),
    mask_mutant(
        "plausible-dice-of-squares",
        "Probabilities below are squared, as in V-Net. Right: they are not. Shows on any mask that is not sure.",
        form_of("dice", of_squares),
    ),
    mask_mutant(
        "plausible-jaccard-for-dice",
        "The overlap is taken off the denominator. Right: it is not. Shows where there is some.",
        form_of("dice", jaccard),
    ),
    mask_mutant(
        "plausible-dice-score-for-loss",
        "The coefficient is the loss. Right: 1 less the coefficient. Shows on any mask.",
        form_of("dice", score),
    ),
    mask_mutant(
        "plausible-dice-of-hard-masks",
        "Dice is taken of pixels that are on or off, with the gradient of the soft one. Right: of probabilities. Shows "
        "on any mask that is not sure.",
        form_of("dice", of_hard_masks),
    ),
    mask_mutant(
        "plausible-dice-of-all-pairs",
        "The pixels of all pairs are one mask. Right: one coefficient for each pair. Shows with two pairs.",
        form_of("dice", of_all_pairs),
    ),
)
"""Mistakes in the formulas."""
