"""Mutants of D-FINE's fine-grained localisation loss."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import replace_in, wrap_in
from detr_conformance.reference.boxes import Guard, giou, iou
from detr_conformance.reference.classification import binary_cross_entropy
from detr_conformance.reference.distribution_terms import of_decoder, of_taught
from detr_conformance.reference.distributions import (
    REACH,
    bin_offsets,
    bin_shares,
    localisation_loss,
    log_softmax,
    side_offsets,
)
from detr_conformance.reference.family import DEIM, DFINE
from detr_conformance.reference.layers import Stack, Weights
from detr_conformance.reference.normaliser import Tally, per_matched_pair, per_target
from detr_conformance.reference.rounding import Arithmetic, arithmetic_of, plain, track
from detr_conformance.reference.tape import Array, stop_gradient
from detr_conformance.reference.terms import TermInputs

EQUATION = "Peng et al., D-FINE, arXiv 2410.13842, equation 8"
BINS = "Peng et al., D-FINE, arXiv 2410.13842, equation 6"
TERM = "extra_terms.fgl"

fgl_mutant = partial(Mutant, family="DIST", home=DFINE)


def made_of(**parts: Any) -> Change:
    """The term with other parts."""
    return lambda spec: wrap_in(spec, f"{TERM}.total", lambda total: replace(total, **parts))


def left_of(offsets: Array, bins: np.ndarray) -> np.ndarray:
    """The bin on the left of each offset; beyond the ends the outermost bin that has one on its right."""
    return np.clip(np.searchsorted(plain(bins), plain(offsets), side="right") - 1, 0, len(bins) - 2)


def swapped_shares(offsets: Array, bins: np.ndarray) -> Array:
    """The two bins have each other's share."""
    inside = np.minimum(np.maximum(offsets, bins[0]), bins[-1])
    left = left_of(inside, bins)
    return bin_shares(bins[left] + bins[left + 1] - inside, bins)


def nearest_alone(offsets: Array, bins: np.ndarray) -> Array:
    """The nearest bin has everything."""
    nearest = np.abs(plain(offsets)[..., None] - plain(bins)).argmin(axis=-1)
    return bin_shares(bins[nearest], bins)


def left_alone(offsets: Array, bins: np.ndarray) -> Array:
    """The bin on the left has everything."""
    return bin_shares(bins[left_of(offsets, bins)], bins)


def extrapolated_shares(offsets: Array, bins: np.ndarray) -> Array:
    """Offsets beyond the outermost bins go on: a share above 1, and one below 0."""
    left, places = left_of(offsets, bins), np.arange(len(bins))
    right_share = ((offsets - bins[left]) / (bins[left + 1] - bins[left]))[..., None]
    is_left, is_right = (places == each[..., None] for each in (left, left + 1))
    return is_left * (1.0 - right_share) + is_right * right_share


def nothing_on_the_left(offsets: Array, bins: np.ndarray) -> Array:
    """Offsets before the first bin have no share at all."""
    return bin_shares(offsets, bins) * (plain(offsets) >= plain(bins)[0])[..., None]


def even_bins(count: int, arithmetic: Arithmetic) -> np.ndarray:
    """Bins at equal distances."""
    return track(np.linspace(-2.0 * REACH, 2.0 * REACH, count), arithmetic)


def near_outermost_bins(count: int, arithmetic: Arithmetic) -> np.ndarray:
    """The outermost bins lie at a + 2^-6, hardly beyond those before them."""
    inner = bin_offsets(count, arithmetic)[1:-1]
    return np.concatenate([inner[:1] - 2.0**-6, inner, inner[-1:] + 2.0**-6])


def from_the_centre(references: Array, wanted: Array) -> Array:
    """Offsets from the centre of the reference box instead of from its sides."""
    return side_offsets(references, wanted) + 0.5


def by_width(references: Array, wanted: Array) -> Array:
    """Of all sides as shares of the width."""
    share = references[..., 3:] / references[..., 2:3]
    return side_offsets(references, wanted) * np.concatenate([np.ones(share.shape), share] * 2, axis=-1)


def left_right_top_bottom(references: Array, wanted: Array) -> Array:
    """The sides in another order."""
    return side_offsets(references, wanted)[..., [0, 2, 1, 3]]


def own_boxes(given: TermInputs) -> Array:
    """Boxes that this layer predicts."""
    return stop_gradient(given.layer.boxes)


def live_iou(boxes: Array, wanted: Array) -> Array:
    """The IoU with its gradient."""
    return iou(boxes, wanted, Guard(0.0))


def constant_giou(boxes: Array, wanted: Array) -> Array:
    """The GIoU in its place."""
    return giou(stop_gradient(boxes), wanted, Guard(0.0))


def one(_boxes: Array, wanted: Array) -> Array:
    """All pairs alike."""
    return track(np.ones(len(wanted)), arithmetic_of(wanted))


def of_the_first_hundred(logits: Array, shares: Array, weight: Array) -> Array:
    """The first hundred pairs."""
    return localisation_loss(logits, shares, weight)[:100]


def by_sigmoids(logits: Array, shares: Array, ious: Array) -> Array:
    """Every bin for itself, as if several could be true."""
    return ious * np.sum(binary_cross_entropy(logits, shares), axis=(-2, -1))


def of_guarded_probabilities(logits: Array, shares: Array, ious: Array) -> Array:
    """The logarithm of probabilities to which 1e-6 is added."""
    return ious * -np.sum(shares * np.log(np.exp(log_softmax(logits)) + 1e-6), axis=(-2, -1))


def without_main_layer(stack: Stack) -> Weights:
    """Not the last layer of ordinary queries."""
    return of_decoder(stack) if stack.is_denoising else of_taught(stack)


def pairs_and_sides(tally: Tally) -> float:
    """Four times the pairs."""
    return 4 * per_matched_pair(tally)


LOCALISATION_MUTANTS: tuple[Mutant, ...] = (
    fgl_mutant(
        "hf-dfine-final-layer-fgl-missing",
        story="The last layer had no localisation loss: its output was handed over without distributions. Right: every "
        "layer of the decoder has one. Shows in loss_fgl, and in its gradient.",
        link="huggingface/transformers 5.23.0, loss/loss_d_fine.py: DFineForObjectDetectionLoss",
        change=lambda spec: replace_in(spec, f"{TERM}.layers", without_main_layer),
    ),
    fgl_mutant(
        "khub-out-of-range-bin-weights",
        story="A target that lies further in than the first bin had no share of any bin. Right: the first bin has "
        "everything. Shows where a side of the target lies beyond the other side of the reference box.",
        link="keras-team/keras-hub, models/d_fine: _translate_gt_valid_case",
        change=made_of(shares=nothing_on_the_left),
    ),
    fgl_mutant(
        "plausible-fgl-shares-swapped",
        story="The left bin has the share of the right one, and the right bin that of the left. Right: the nearer bin "
        "has more. Shows wherever an offset lies nearer to one of them.",
        link=EQUATION,
        change=made_of(shares=swapped_shares),
    ),
    fgl_mutant(
        "plausible-fgl-nearest-bin",
        story="The nearest bin is the label. Right: two neighbours share the offset. Shows wherever it lies between.",
        link=EQUATION,
        change=made_of(shares=nearest_alone),
    ),
    fgl_mutant(
        "plausible-fgl-left-bin",
        story="The bin on the left is the label: the offset was truncated. Right: two neighbours share it. Shows "
        "wherever it lies between.",
        link=EQUATION,
        change=made_of(shares=left_alone),
    ),
    fgl_mutant(
        "plausible-fgl-offset-not-clamped",
        story="Offsets beyond the outermost bins are extrapolated: one share is above 1, the other below 0. Right: the "
        "outermost bin has everything. Shows where a target is more than three times as large as its reference box.",
        link=EQUATION,
        change=made_of(shares=extrapolated_shares),
    ),
    fgl_mutant(
        "plausible-fgl-even-bins",
        story="The bins lie at equal distances. Right: close together around 0, further apart outside. Shows almost "
        "everywhere.",
        link=BINS,
        change=made_of(bins=even_bins),
    ),
    fgl_mutant(
        "plausible-fgl-outermost-bins-near",
        story="The outermost bins lie hardly beyond those before them. Right: twice as far out. Shows for offsets "
        "above 1/2.",
        link=BINS,
        change=made_of(bins=near_outermost_bins),
    ),
    fgl_mutant(
        "plausible-fgl-from-the-centre",
        story="Offsets are measured from the centre of the reference box. Right: from its sides. Shows everywhere.",
        link=EQUATION,
        change=made_of(offsets=from_the_centre),
    ),
    fgl_mutant(
        "plausible-fgl-width-for-height",
        story="Top and bottom are measured in widths of the reference box. Right: in heights. Shows for boxes that are "
        "no squares.",
        link=EQUATION,
        change=made_of(offsets=by_width),
    ),
    fgl_mutant(
        "plausible-fgl-order-of-sides",
        story="Sides come as left, right, top, bottom. Right: left, top, right, bottom. Shows almost everywhere.",
        link=EQUATION,
        change=made_of(offsets=left_right_top_bottom),
    ),
    fgl_mutant(
        "plausible-fgl-of-the-first-hundred-pairs",
        story="The loss is that of the first hundred pairs of a batch. Right: of all. Shows with 101 pairs.",
        link=EQUATION,
        change=made_of(loss=of_the_first_hundred),
    ),
    fgl_mutant(
        "plausible-fgl-by-sigmoids",
        story="Every bin has a binary cross-entropy of its own. Right: one softmax over the bins of a side. Shows "
        "everywhere, and in that a number added to all logits of a side changes the loss.",
        link=EQUATION,
        change=made_of(loss=by_sigmoids),
    ),
    fgl_mutant(
        "plausible-fgl-guarded-logarithm",
        story="1e-6 is added to the probabilities inside the logarithm: the loss ends at 14. Right: it grows as logits "
        "do. Shows where a bin is given next to nothing.",
        link=EQUATION,
        change=made_of(loss=of_guarded_probabilities),
    ),
    fgl_mutant(
        "plausible-fgl-own-box-as-reference",
        story="Offsets are measured from the box that the layer predicts. Right: from the initial reference box, which "
        "all layers share. Shows wherever the two differ.",
        link=EQUATION,
        change=made_of(references=own_boxes),
        home=DEIM,
    ),
    fgl_mutant(
        "plausible-fgl-iou-not-detached",
        story="The IoU that weighs a pair is not detached: the loss is smaller for worse boxes. Right: a constant. "
        "Shows in the gradient with respect to boxes alone.",
        link=EQUATION,
        change=made_of(weight=live_iou),
    ),
    fgl_mutant(
        "plausible-fgl-without-iou",
        story="All pairs count alike. Right: each by its IoU. Shows wherever that is not 1.",
        link=EQUATION,
        change=made_of(weight=one),
    ),
    fgl_mutant(
        "plausible-fgl-giou",
        story="Pairs are weighed by their GIoU, which may be below 0. Right: by their IoU. Shows where the hull is "
        "larger than the union.",
        link=EQUATION,
        change=made_of(weight=constant_giou),
    ),
    fgl_mutant(
        "plausible-fgl-own-pairs",
        story="Each layer localises by its own matching. Right: by the vote of all layers. Shows where two layers "
        "match otherwise.",
        link="Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py: indices of the union",
        change=lambda spec: replace_in(spec, f"{TERM}.pairs", "classes"),
    ),
    fgl_mutant(
        "plausible-fgl-over-targets",
        story="The loss is divided by the number of targets. Right: by that of the pairs of the union. Shows where two "
        "layers match otherwise.",
        link="Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py: indices of the union",
        change=lambda spec: replace_in(spec, f"{TERM}.normaliser", per_target),
    ),
    fgl_mutant(
        "plausible-fgl-mean-over-sides",
        story="The loss is a mean over the four sides. Right: their sum. Shows everywhere.",
        link=EQUATION,
        change=lambda spec: replace_in(spec, f"{TERM}.normaliser", pairs_and_sides),
    ),
)
