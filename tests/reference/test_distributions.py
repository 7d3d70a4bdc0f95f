"""Losses of distributions of box sides: closed forms, tables by hand, and gradients in other ways."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.reference.distributions import (
    BINS,
    bin_offsets,
    bin_shares,
    confidence,
    distillation_loss,
    divergence,
    localisation_loss,
    side_offsets,
)
from detr_conformance.reference.rounding import plain, track

from .differentiating import central_difference, gradient
from .in_float32 import assert_within, box_pairs

W = plain(bin_offsets(BINS))
REFERENCE = np.array([[0.5, 0.4, 0.2, 0.4]])


def draw(*shape, scale=2.0, seed=0):
    """Random logits."""
    return np.random.default_rng(seed).normal(0, scale, shape)


def log_softmax(x):
    """Of the last axis."""
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def moved_out(*by):
    """The reference box with its sides moved out by these shares of its size."""
    (x, y, w, h), (left, top, right, bottom) = REFERENCE[0], by
    return np.array(
        [[x + (right - left) * w / 2, y + (bottom - top) * h / 2, (1 + left + right) * w, (1 + top + bottom) * h]]
    )


# Bins.


def test_the_bins_of_the_recipe():
    assert len(W) == 33
    assert pytest.approx(-W[::-1]) == W
    assert W[[16, 31, 32]] == pytest.approx([0, 0.5, 1])
    assert W[[17, 18]] == pytest.approx([0.25 * (3 ** (1 / 15) - 1), 0.25 * (3 ** (2 / 15) - 1)])


def test_bins_lie_further_apart_the_further_out_they_are():
    widths = np.diff(W)[16:]
    assert widths[1:-1] / widths[:-2] == pytest.approx(3 ** (1 / 15))
    assert widths[-1] == pytest.approx(0.5)


def test_five_bins():
    assert plain(bin_offsets(5)) == pytest.approx([-1, -0.5, 0, 0.5, 1])


# Offsets.


@pytest.mark.parametrize("by", [(0, 0, 0, 0), (0.1, 0.2, 0.3, 0.4), (-0.2, 0.5, 0, -0.1)], ids=str)
def test_offsets_are_shares_of_the_reference_box_by_which_sides_lie_further_out(by):
    assert side_offsets(REFERENCE, moved_out(*by))[0] == pytest.approx(by)


def test_offsets_of_a_target_beside_the_reference_box():
    assert side_offsets(REFERENCE, np.array([[0.9, 0.4, 0.2, 0.4]]))[0] == pytest.approx([-2, 0, 2, 0])


# Shares.


@pytest.mark.parametrize("place", [0, 1, 16, 31, 32])
def test_an_offset_at_a_bin_is_all_that_bin_s(place):
    assert plain(bin_shares(W[[place]], track(W)))[0] == pytest.approx(np.eye(BINS)[place])


def test_an_offset_between_two_bins_belongs_more_to_the_nearer():
    offset = 0.75 * W[20] + 0.25 * W[21]
    shares = plain(bin_shares(np.array([offset]), track(W)))[0]
    assert shares[[20, 21]] == pytest.approx([0.75, 0.25])
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize(("offset", "place"), [(-1.01, 0), (-7.0, 0), (1.01, 32), (7.0, 32)])
def test_an_offset_beyond_all_bins_is_the_outermost_one_s(offset, place):
    assert plain(bin_shares(np.array([offset]), track(W)))[0] == pytest.approx(np.eye(BINS)[place])


def test_shares_give_the_offset_back():
    offsets = np.linspace(-1, 1, 101)
    assert plain(bin_shares(offsets, track(W))) @ W == pytest.approx(offsets, abs=1e-12)


# FGL.


def fgl(logits, references, targets, ious):
    """From boxes to the loss of each pair."""
    bins = bin_offsets(logits.shape[-1])
    return localisation_loss(logits, bin_shares(side_offsets(references, targets), bins), ious)


def test_all_mass_on_the_right_bins_costs_nothing():
    bins = [20, 16, 3, 32]
    logits = 60 * np.eye(BINS)[bins][None]
    assert plain(fgl(logits, REFERENCE, moved_out(*W[bins]), np.ones(1))) == pytest.approx([0], abs=1e-9)


def test_mass_as_the_shares_have_it_costs_their_entropy_and_nothing_costs_less():
    targets = moved_out(*(0.3 * W[20:24] + 0.7 * W[21:25]))
    best = np.full((1, 4, BINS), -60.0)
    for side in range(4):
        best[0, side, 20 + side : 22 + side] = math.log(0.3), math.log(0.7)
    least = -4 * (0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert plain(fgl(best, REFERENCE, targets, np.ones(1))) == pytest.approx([least])
    for seed in range(5):
        assert plain(fgl(best + draw(1, 4, BINS, seed=seed), REFERENCE, targets, np.ones(1)))[0] > least


def test_without_preference_every_side_costs_the_logarithm_of_the_bins():
    for by in [(0, 0, 0, 0), (0.03, -0.4, 0.6, 5)]:
        loss = fgl(np.zeros((1, 4, BINS)), REFERENCE, moved_out(*by), np.array([0.3]))
        assert plain(loss) == pytest.approx([0.3 * 4 * math.log(33)])


def test_by_two_bins_as_the_paper_has_it():
    logits, offsets = draw(1, 4, BINS), (0.07, -0.31, 0.44, 0.9)
    expected = 0.0
    for side, phi in enumerate(offsets):
        left = int(np.searchsorted(W, phi)) - 1
        width = abs(W[left] - W[left + 1])
        log_p = log_softmax(logits[0, side])
        expected -= abs(phi - W[left + 1]) / width * log_p[left] + abs(phi - W[left]) / width * log_p[left + 1]
    loss = fgl(logits, REFERENCE, moved_out(*offsets), np.array([0.6]))
    assert plain(loss) == pytest.approx([0.6 * expected])


def test_fgl_by_central_differences():
    logits, (references, targets) = draw(3, 4, 9), (each[:3].astype(float) for each in box_pairs(seed=3))
    arguments = logits, references, targets, np.array([0.2, 0.7, 1.0])
    assert plain(gradient(fgl, *arguments)) == pytest.approx(central_difference(fgl, *arguments), abs=1e-7)


def test_fgl_s_slope_is_the_iou_times_probability_less_share():
    logits, targets = draw(1, 4, BINS), moved_out(0.07, -0.31, 0.44, 0.9)
    shares = plain(bin_shares(side_offsets(REFERENCE, targets), track(W)))
    slope = gradient(fgl, logits, REFERENCE, targets, np.array([0.6]))
    assert plain(slope) == pytest.approx(0.6 * (np.exp(log_softmax(logits)) - shares))


# DDF.


def test_equal_distributions_do_not_diverge():
    logits = draw(2, 3, 4, BINS)
    assert plain(divergence(logits, logits + 7.0)) == pytest.approx(0, abs=1e-12)


def test_two_bins_diverge_by_hand():
    x, z = np.array([[0.0, 5.0]]), np.array([[5 * math.log(3), 0.0]])  # at temperature 5: odds 1 : e, and 3 : 1
    p, q = np.array([1, math.e]) / (1 + math.e), np.array([0.75, 0.25])
    assert plain(divergence(x, z)) == pytest.approx([25 * float(q @ np.log(q / p))])


def test_divergence_by_central_differences_and_in_closed_form():
    logits, teacher = draw(2, 4, 9), draw(2, 4, 9, seed=1)
    slope = plain(gradient(divergence, logits, teacher))
    p, q = (np.exp(log_softmax(each / 5)) for each in (logits, teacher))
    assert slope == pytest.approx(central_difference(divergence, logits, teacher), abs=1e-7)
    assert slope == pytest.approx(5 * (p - q))


def test_confidence_is_the_largest_probability():
    scores = draw(2, 3, 5)
    assert plain(confidence(track(scores))) == pytest.approx(1 / (1 + np.exp(-scores.max(axis=-1))))


def ddf_by_hand(of_sides, is_matched):
    """Mean by mean."""
    means = [of_sides[chosen].mean() if chosen.any() else 0.0 for chosen in (is_matched, ~is_matched)]
    roots = [math.sqrt(chosen.sum()) for chosen in (is_matched, ~is_matched)]
    return (means[0] * roots[0] + means[1] * roots[1]) / sum(roots)


@pytest.mark.parametrize("matched", [[], [1], [0, 3], [0, 1, 2, 3]], ids=str)
def test_ddf_weighs_two_means_by_the_roots_of_their_counts(matched):
    of_sides, is_matched = draw(1, 4, 4) ** 2, np.isin(np.arange(4), matched)[None]
    loss = distillation_loss(track(of_sides), is_matched, (len(matched), 4 - len(matched)))
    assert float(loss) == pytest.approx(ddf_by_hand(of_sides, is_matched))


def test_ddf_by_central_differences():
    def ddf(logits):
        return distillation_loss(weights[..., None] * divergence(logits, teacher), is_matched, (1, 3))

    teacher, weights = draw(2, 2, 4, 5, seed=1), track(np.array([[0.2, 0.9], [0.4, 0.7]]))
    is_matched = np.array([[True, False], [False, False]])
    slope = plain(gradient(ddf, draw(2, 2, 4, 5)))
    assert slope == pytest.approx(central_difference(ddf, draw(2, 2, 4, 5)), abs=1e-7)


# In float32, as ports write them.


def bins_in_float32(bins):
    """Powers of a rounded step."""
    one, step = np.float32(1), np.float32(3) ** np.float32(2 / (bins - 3))
    right = [step ** np.float32(i) - one for i in range(1, bins // 2)]
    return np.array([-4, *(-each for each in reversed(right)), 0, *right, 4], dtype=np.float32)


def offsets_in_float32(references, targets):
    """Four quarters of a size at a time, from a target's corners."""
    (x, y, w, h), (cx, cy, tw, th) = references.T, targets.T
    four, two = np.float32(4), np.float32(2)
    left, right = (x - (cx - tw / two)) / (w / four) - two, ((cx + tw / two) - x) / (w / four) - two
    top, bottom = (y - (cy - th / two)) / (h / four) - two, ((cy + th / two) - y) / (h / four) - two
    return np.stack([left, top, right, bottom], axis=-1)


def fgl_in_float32(logits, references, targets):
    """By the two neighbouring bins."""
    bins = bins_in_float32(logits.shape[-1])
    phi = np.clip(offsets_in_float32(references, targets), bins[0], bins[-1])
    left = np.clip((bins <= phi[..., None]).sum(-1) - 1, 0, len(bins) - 2)
    share = (phi - bins[left]) / (bins[left + 1] - bins[left])
    log_p = log_softmax(logits)
    first, second = (np.take_along_axis(log_p, each[..., None], -1)[..., 0] for each in (left, left + 1))
    return -(first * (1 - share) + second * share).sum(-1)


def test_offsets_and_bins_in_float32_stay_within_their_bounds():
    references, targets = box_pairs()
    assert_within(offsets_in_float32(references, targets) / 4, side_offsets(track(references), track(targets)))
    assert_within(bins_in_float32(BINS) / 4, bin_offsets(BINS))


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_fgl_in_float32_stays_within_its_bound(scale):
    references, targets = box_pairs(seed=1, count=2000)
    logits = draw(2000, 4, BINS, scale=scale).astype(np.float32)
    expected = fgl(track(logits), track(references), track(targets), np.ones(2000))
    assert_within(fgl_in_float32(logits, references, targets), expected)


def test_fgl_at_the_bins_in_float32_stays_within_its_bound():
    references, _ = box_pairs(seed=2, count=2000)
    references[:, 2:] = references[:, 2:].clip(0.01)
    sides = np.random.default_rng(0).choice(W[4:29], (2000, 4))
    x, y, w, h = references.T.astype(float)
    targets = np.stack(
        [
            x + (sides[:, 2] - sides[:, 0]) * w / 2,
            y + (sides[:, 3] - sides[:, 1]) * h / 2,
            (1 + sides[:, 0] + sides[:, 2]) * w,
            (1 + sides[:, 1] + sides[:, 3]) * h,
        ],
        axis=-1,
    ).astype(np.float32)
    logits = draw(2000, 4, BINS, scale=20).astype(np.float32)
    expected = fgl(track(logits), track(references), track(targets), np.ones(2000))
    assert_within(fgl_in_float32(logits, references, targets), expected)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_divergences_in_float32_stay_within_their_bound(scale):
    logits, teacher = (draw(2000, 4, BINS, scale=scale, seed=seed).astype(np.float32) for seed in (0, 1))
    five = np.float32(5)
    log_p, log_q = log_softmax(logits / five), log_softmax(teacher / five)
    got = (np.exp(log_q) * (log_q - log_p)).sum(-1) * np.float32(25)
    assert_within(got, divergence(track(logits), track(teacher)))
