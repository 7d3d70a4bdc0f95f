"""Mutants in how masks are read at points, in the losses of what is read there, and in the layers that have them."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float

from detr_conformance.mutants.mask_forms import without_one
from detr_conformance.mutants.masks import compared, form_of, of_both, pairs_twice
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import replace_in
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.family import MASKDINO
from detr_conformance.reference.layers import Stack, Weights, every_layer, no_layer
from detr_conformance.reference.mask_terms import Compared, Sampler, at_points, both_bilinearly, main_layer
from detr_conformance.reference.masks import OfMap, between, dice_at_points, entropy_at_points, focal, sampled_each
from detr_conformance.reference.matcher import flat
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, stop_gradient
from detr_conformance.reference.terms import TermInputs

Points = Float[np.ndarray, "pairs points 2"]
Masks = Float[Array, "pairs height width"]
Values = Float[Array, "pairs points"]
Logits = Float[Array, "pairs points"]
Objects = Float[np.ndarray, "pairs points"]


def read_by(of_prediction: Sampler, of_target: Sampler) -> Change:
    """Predictions and targets are read in other ways."""
    return compared(partial(at_points, of_prediction, of_target))


def by_nearest_pixel(masks: Masks, points: Points) -> Values:
    """The pixel that a point lies in."""
    height, width = masks.shape[1:]
    columns = np.minimum((points[..., 0] * width).astype(np.int64), width - 1)
    rows = np.minimum((points[..., 1] * height).astype(np.int64), height - 1)
    return masks[np.arange(len(masks))[:, None], rows, columns]


def corners_aligned(masks: Masks, points: Points) -> Values:
    """0 and 1 are the centres of the outermost pixels."""
    height, width = masks.shape[1:]
    return between(masks, points[..., 0] * (width - 1), points[..., 1] * (height - 1))


def edge_repeated(masks: Masks, points: Points) -> Values:
    """Around a mask its outermost pixels go on, as `padding_mode="border"` has it."""
    positions = (
        np.clip(points[..., axis] * pixels - 0.5, 0.0, pixels - 1.0) for axis, pixels in enumerate(masks.shape[:0:-1])
    )
    return between(masks, *positions)


def shares_as_grid(masks: Masks, points: Points) -> Values:
    """Shares from 0 to 1 are taken for the grid from -1 to 1."""
    return sampled_each(masks, (points + 1.0) / 2.0)


def turned(masks: Masks, points: Points) -> Values:
    """The first number counts rows."""
    return sampled_each(masks, points[..., ::-1])


def probabilities(masks: Masks, points: Points) -> Values:
    """Probabilities are read, and turned into logits again; the clip keeps those finite."""
    p = np.minimum(np.maximum(sampled_each(sigmoid(masks), points), 1e-6), 1.0 - 1e-6)
    return np.log(p) - np.log(1.0 - p)


def of_next_pair(masks: Masks, points: Points) -> Values:
    """At the points of the next pair."""
    return sampled_each(masks, np.roll(points, -1, axis=0))


def detached(masks: Masks, points: Points) -> Values:
    """No gradient flows into the masks."""
    return stop_gradient(sampled_each(masks, points))


def on_or_off(masks: Masks, points: Points) -> Values:
    """1 from a half on, else 0."""
    return (plain(sampled_each(masks, points)) >= 0.5).astype(np.float64)


def in_order_of_targets(given: TermInputs) -> Compared:
    """Pairs that are ordered by their queries get points in the order of the targets."""
    (images, queries), chosen = flat(given.pairs)
    points = given.constants["loss_points"][np.sort(chosen)]
    masks = given.layer.further["masks"][images, queries], given.constants["gt_masks"][chosen]
    return sampled_each(masks[0], points), sampled_each(masks[1], points)


def of_first_target(given: TermInputs) -> Compared:
    """All pairs share one set of points, as in the matcher."""
    points = given.constants["loss_points"]
    shared = np.broadcast_to(points[:1], points.shape)
    return both_bilinearly(given._replace(constants={**given.constants, "loss_points": shared}))


def focal_at_points(x: Logits, t: Objects) -> OfMap:
    """The focal loss between the labels 0 and 1."""
    on, off = focal(x, np.ones(x.shape)), focal(x, np.zeros(x.shape))
    return np.sum(t * on + (1.0 - t) * off, axis=-1) / x.shape[-1]


def summed_over_points(x: Logits, t: Objects) -> OfMap:
    """Points are added up."""
    return entropy_at_points(x, t) * x.shape[-1]


def last_left_out(x: Logits, t: Objects) -> OfMap:
    """One point too few is read, where there are several."""
    return entropy_at_points(x[:, :-1], t[:, :-1]) if x.shape[1] > 1 else entropy_at_points(x, t)


def mean_of_nothing(x: Logits, t: Objects) -> OfMap:
    """The mean over no pair is no number."""
    return entropy_at_points(x, t) if len(x) else np.full(1, np.nan)


def dice_without_one(x: Logits, t: Objects) -> OfMap:
    """As on pixels."""
    return without_one(x[..., None], t[..., None])


def dice_of_all_pairs(x: Logits, t: Objects) -> OfMap:
    """The points of all pairs are those of one mask, whose loss every pair has a share in."""
    if not len(x):
        return dice_at_points(x, t)
    return dice_at_points(x.reshape(1, -1), t.reshape(1, -1)) * np.ones(len(x))


def ordinary_alone(stack: Stack) -> Weights:
    """Every layer of ordinary queries."""
    return no_layer(stack) if stack.is_denoising else every_layer(stack)


SAMPLING = "IDEA-Research/MaskDINO, maskdino/modeling/criterion.py: loss_masks"


def point_mutant(id: str, story: str, change: Change) -> Mutant:  # noqa: A002  # as in Mutant
    """One under Mask DINO."""
    return Mutant(id, "MASK", story, SAMPLING, change, home=MASKDINO)


MASK_POINT_MUTANTS: tuple[Mutant, ...] = (
    point_mutant(
        "plausible-points-in-order-of-targets",
        "Pairs in the order of their queries get the points in the order of the targets. Right: each those that were "
        "drawn for it. Shows with two targets of an image.",
        compared(in_order_of_targets),
    ),
    point_mutant(
        "plausible-points-shared-by-all-pairs",
        "All pairs of a batch share one set of points. Right in the matcher; in the losses each pair has its own. "
        "Shows with two targets.",
        compared(of_first_target),
    ),
    point_mutant(
        "plausible-target-at-points-of-another-pair",
        "Predictions are read at the points of their pairs, targets at those of the next. Right: both at the same. "
        "Shows with two targets.",
        read_by(sampled_each, of_next_pair),
    ),
    point_mutant(
        "plausible-predictions-at-nearest-pixel",
        "A prediction has at a point the value of the pixel that the point lies in. Right: bilinear. Shows beside "
        "centres.",
        read_by(by_nearest_pixel, sampled_each),
    ),
    point_mutant(
        "plausible-targets-at-nearest-pixel",
        "A target has at a point the value of the pixel that the point lies in. Right under this profile: bilinear. "
        "Shows at the edges of objects.",
        read_by(sampled_each, by_nearest_pixel),
    ),
    point_mutant(
        "plausible-points-with-aligned-corners",
        "Masks are read with align_corners=True. Right: False. Shows everywhere but in the middle.",
        read_by(corners_aligned, corners_aligned),
    ),
    point_mutant(
        "plausible-points-with-repeated-edge",
        "Around a mask its outermost pixels go on. Right: everything is 0 there. Shows within half a pixel of the "
        "border.",
        read_by(edge_repeated, edge_repeated),
    ),
    point_mutant(
        "plausible-points-as-grid",
        "Points from 0 to 1 are handed to a sampler that counts from -1 to 1. Right: twice the point less 1. Shows "
        "everywhere but at the lower right.",
        read_by(shares_as_grid, shares_as_grid),
    ),
    point_mutant(
        "plausible-points-turned",
        "The first number of a point counts rows. Right: columns. Shows beside the diagonal.",
        read_by(turned, turned),
    ),
    point_mutant(
        "plausible-probabilities-at-points",
        "The sigmoid is taken before masks are read at points. Right: after it. Shows beside centres.",
        read_by(probabilities, sampled_each),
    ),
    point_mutant(
        "plausible-targets-at-points-rounded",
        "A target is 0 or 1 at a point. Right: what it is there. Shows at the edges of objects.",
        read_by(sampled_each, on_or_off),
    ),
    point_mutant(
        "plausible-masks-at-points-detached",
        "Predictions are read without a gradient, as their points are drawn. Right: the values have one. Shows on any "
        "mask.",
        read_by(detached, sampled_each),
    ),
    point_mutant(
        "plausible-focal-loss-at-points",
        "Points have the focal loss, as pixels in DETR. Right under this profile: the cross-entropy alone. Shows on "
        "any mask.",
        form_of("mask", focal_at_points),
    ),
    point_mutant(
        "plausible-entropy-summed-over-points",
        "The cross-entropy is added up over points. Right: averaged. Shows with two points.",
        form_of("mask", summed_over_points),
    ),
    point_mutant(
        "plausible-entropy-mean-over-pairs",
        "The cross-entropy is averaged over pairs and points, and then divided by the number of targets. Right: added "
        "up over pairs. Shows with two pairs.",
        lambda spec: replace_in(spec, "extra_terms.mask.normaliser", pairs_twice),
    ),
    point_mutant(
        "plausible-last-point-left-out",
        "The last point is not read. Right: every one counts. Shows with two points.",
        form_of("mask", last_left_out),
    ),
    point_mutant(
        "plausible-entropy-of-no-pair",
        "The mean over no pair is 0 / 0. Right: 0. Shows in a batch without targets.",
        form_of("mask", mean_of_nothing),
    ),
    point_mutant(
        "plausible-dice-at-points-without-one",
        "Dice has no 1 above and below. Right: 1 in both. Shows on any mask.",
        form_of("dice", dice_without_one),
    ),
    point_mutant(
        "plausible-dice-of-all-points",
        "The points of all pairs are one mask. Right: one coefficient for each pair. Shows with two pairs.",
        form_of("dice", dice_of_all_pairs),
    ),
    point_mutant(
        "plausible-masks-at-points-of-the-last-layer",
        "The last layer alone has losses of masks, as in DETR. Right under this profile: every layer. Shows with two "
        "layers.",
        of_both("layers", main_layer),
    ),
    point_mutant(
        "plausible-no-masks-of-denoising-queries",
        "Denoising queries have no losses of masks. Right under this profile: they have. Shows with any.",
        of_both("layers", ordinary_alone),
    ),
)
"""Mistakes in the losses."""
