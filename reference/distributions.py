"""Distributions: each side of a box as probabilities over bins, and D-FINE's two losses of them.

A query starts from a reference box. For each of its sides (left, top, right, bottom) the decoder predicts one logit for
each of N + 1 bins; bin n stands for an offset W(n), by which the side lies further out than the reference box's, as a
share of that box's width or height. The bins lie close together around 0 and far apart at both ends.

Reference: Peng et al., D-FINE, arXiv 2410.13842, section 4.
"""

from __future__ import annotations

from functools import cache, reduce

import numpy as np
from jaxtyping import Bool, Float

from detr_conformance.reference.boxes import Boxes, corners_of_centre_form
from detr_conformance.reference.classification import cross_entropy, sigmoid
from detr_conformance.reference.rounding import FLOAT32, Arithmetic, plain, track
from detr_conformance.reference.tape import Array

SIDES = 4
"""Left, top, right, bottom."""
BINS = 33
"""N + 1, with N = 32 as in D-FINE's recipes."""
REACH = 0.5
"""a: the second outermost bins lie this far out, the outermost ones twice as far."""
CURVATURE = 0.25
"""c: the smaller, the closer bins lie together around 0."""
TEMPERATURE = 5.0
"""T: logits are divided by it before distributions are compared."""

Logits = Float[Array, "*sides bins"]
OfSides = Float[Array, "*sides"]
MatchedAndOthers = tuple[int, int]
"""K_m and K_u: how many queries are matched, and how many are not."""


@cache
def bin_offsets(bins: int, arithmetic: Arithmetic = FLOAT32) -> Float[np.ndarray, " {bins}"]:
    """The weighting function: the offset that each bin stands for.

        W(0) = -2 a,   W(N) = 2 a
        W(N/2 + i) = -W(N/2 - i) = c ((a / c + 1)^(2 i / (N - 2)) - 1)   for i = 0 ... N/2 - 1

    Args:
        bins: N + 1, odd and at least 5.
        arithmetic: floating-point format of the port under test.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 6.
    """
    half = bins // 2
    step = track(REACH / CURVATURE + 1.0, arithmetic) ** (1.0 / (half - 1))
    # Libraries take powers of the rounded step, which costs digits: so does this, for its error bound.
    inner = CURVATURE * (step ** np.arange(1.0, half) - 1.0)
    outward = np.concatenate([inner, [2.0 * REACH]])
    return np.concatenate([-outward[::-1], np.zeros(1), outward])


def side_offsets(references: Boxes, targets: Boxes) -> Float[Array, "*batch 4"]:
    """By how much each side of a target lies further out than that of the reference box: phi.

        left     (x - x_target_left) / w - 1/2        with x, y the centre and w, h the size of the reference box
        top      (y - y_target_top) / h - 1/2
        right    (x_target_right - x) / w - 1/2
        bottom   (y_target_bottom - y) / h - 1/2

    Args:
        references: reference boxes in centre form, of sizes above 0.
        targets: the target of each.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 8.
    """
    centre, size = references[..., :2], references[..., 2:]
    corners = corners_of_centre_form(targets)
    distances = np.concatenate([(centre - corners.low) / size, (corners.high - centre) / size], axis=-1)
    return distances - 0.5


def bin_shares(offsets: OfSides, bins: Float[np.ndarray, " bins"]) -> Logits:
    """The share of each bin in an offset, linear between a bin and its neighbour.

        share of n  =  (phi - W(n - 1)) / (W(n) - W(n - 1))   for phi between the two,
                       (W(n + 1) - phi) / (W(n + 1) - W(n))   likewise, else 0

    At most two neighbours have one, and together 1: in the paper, its weights of the left and of the right bin. Beyond
    the outermost bins, these have everything.

    Args:
        offsets: phi.
        bins: W(n), ascending.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 8; Li et al., Generalized Focal Loss, arXiv 2006.04388,
    equation 6.
    """
    inside = np.minimum(np.maximum(offsets, bins[0]), bins[-1])[..., None]
    widths = bins[1:] - bins[:-1]
    above, below = (inside - bins[:-1]) / widths, (bins[1:] - inside) / widths
    always = np.ones(inside.shape)
    rising, falling = np.concatenate([always, above], axis=-1), np.concatenate([below, always], axis=-1)
    # Every bin, not the two that have a share: rounding may carry an offset across a bin.
    return np.maximum(np.minimum(rising, falling), 0.0)


def localisation_loss(
    logits: Float[Array, "pairs 4 bins"], shares: Float[Array, "pairs 4 bins"], ious: Float[Array, " pairs"]
) -> Float[Array, " pairs"]:
    """Fine-grained localisation loss of each pair: FGL, >= 0.

        IoU  sum over sides and bins of share_n (-log softmax(logits)_n)

    Args:
        logits: of every side.
        shares: of every bin in the offset of the target's side from the reference box's.
        ious: of the predicted box with the target.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 8.
    """
    return ious * np.sum(cross_entropy(logits, shares), axis=(-2, -1))


def log_softmax(x: Logits) -> Logits:
    """x - log sum exp(x) over bins, evaluated so that exp never overflows."""
    below = x - plain(x).max(axis=-1, keepdims=True)
    return below - np.log(np.sum(np.exp(below), axis=-1))[..., None]


def divergence(logits: Logits, teacher: Logits, temperature: float = TEMPERATURE) -> OfSides:
    """Kullback-Leibler divergence of each distribution from its teacher's, both softened: >= 0, and 0 where they agree.

        T^2 sum over bins of q (log q - log p),   q = softmax(teacher / T), p = softmax(logits / T)

    T^2 makes up for the gradient, which shrinks with the square of the temperature.

    Args:
        logits: of the distribution that is taught.
        teacher: logits of the other.
        temperature: T.

    Reference: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2.
    """
    log_p, log_q = log_softmax(logits / temperature), log_softmax(teacher / temperature)
    return temperature**2 * np.sum(np.exp(log_q) * (log_q - log_p), axis=-1)


def confidence(scores: Float[Array, "*batch columns"]) -> Float[Array, "*batch"]:
    """The largest probability of any class."""
    return sigmoid(reduce(np.maximum, (scores[..., column] for column in range(scores.shape[-1]))))


def distillation_loss(
    of_sides: Float[Array, "images queries 4"], is_matched: Bool[np.ndarray, "images queries"], counts: MatchedAndOthers
) -> Array:
    """Decoupled distillation focal loss of a layer: DDF, >= 0.

        (sqrt(K_m) mean over matched + sqrt(K_u) mean over unmatched) / (sqrt(K_m) + sqrt(K_u))

    Means are over queries and their sides. A mean over nothing is 0.

    Args:
        of_sides: weight times divergence of each side. The weight of a matched query is the IoU of its box with its
            target, that of another one the confidence of its teacher.
        is_matched: whether each query is.
        counts: K_m and K_u.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 9.
    """
    matched, unmatched = (np.sqrt(float(count)) for count in counts)
    total = matched * mean_of(of_sides, is_matched) + unmatched * mean_of(of_sides, ~is_matched)
    return total / (matched + unmatched)


def mean_of(of_sides: Float[Array, "images queries 4"], chosen: Bool[np.ndarray, "images queries"]) -> Array:
    """Mean over the sides of chosen queries; 0 without any."""
    return np.sum(of_sides[chosen]) / max(SIDES * int(chosen.sum()), 1)
