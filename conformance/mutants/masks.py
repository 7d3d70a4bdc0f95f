"""Mutants in how masks are compared: sizes, padding, pairs, layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig, LossSpec, replace_in
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.family import DETR_MASKS
from detr_conformance.reference.layers import Stack, Weights, every_layer
from detr_conformance.reference.mask_terms import Compared, in_target_size, sum_over_pairs
from detr_conformance.reference.masks import resized, taps
from detr_conformance.reference.matcher import flat
from detr_conformance.reference.normaliser import Tally, per_matched_pair
from detr_conformance.reference.spec import value_in
from detr_conformance.reference.tape import Array, stop_gradient
from detr_conformance.reference.terms import TermInputs

TERMS = ("mask", "dice")


def form_of(term: str, of_pair: Callable[..., Array]) -> Change:
    """Another loss of the two masks of a pair."""
    return lambda spec: _with_parts(spec, term, of_pair=of_pair)


def compared(wrong: Callable[[TermInputs], Compared]) -> Change:
    """Other masks are held against each other, in both terms."""
    return lambda spec: reduce(lambda made, term: _with_parts(made, term, compared=wrong), TERMS, spec)


def of_both(field: str, value: Any) -> Change:  # of any field of a term
    """Another value of one field of both terms."""
    return lambda spec: reduce(lambda made, term: replace_in(made, f"extra_terms.{term}.{field}", value), TERMS, spec)


def _with_parts(spec: LossSpec, term: str, **parts: Callable[..., Any]) -> LossSpec:
    """The spec with one part of a term, or both, exchanged; what another mutant has exchanged stays so."""
    path = f"extra_terms.{term}.total"
    right = value_in(spec, path)
    before = dict(zip(("compared", "of_pair"), right.args, strict=True))
    return replace_in(spec, path, partial(sum_over_pairs, *(before | parts).values()))


def _pairs(given: TermInputs) -> tuple[Array, np.ndarray]:
    """Logits and masks of all pairs, each in its own size."""
    (images, queries), chosen = flat(given.pairs)
    return given.layer.further["masks"][images, queries], given.constants["gt_masks"][chosen]


def by_nearest_pixel(given: TermInputs) -> Compared:
    """Predictions are resized by taking the pixel that a cell begins in."""
    x, wanted = _pairs(given)
    rows, columns = (
        np.arange(size) * pixels // size for size, pixels in zip(wanted.shape[1:], x.shape[1:], strict=True)
    )
    return x[:, rows][:, :, columns], wanted


def corners_aligned(given: TermInputs) -> Compared:
    """The outermost centres stay where they are, as `align_corners=True` has it."""
    x, wanted = _pairs(given)
    (rows, columns) = (
        taps(np.arange(size) * ((pixels - 1) / max(size - 1, 1)), pixels)
        for size, pixels in zip(wanted.shape[1:], x.shape[1:], strict=True)
    )
    of_rows: Any = reduce(add, (x[..., row.pixel, :] * row.weight[:, None] for row in rows))
    return reduce(add, (of_rows[..., column.pixel] * column.weight for column in columns)), wanted


def targets_resized(given: TermInputs) -> Compared:
    """Targets are brought to the size of predictions, by their nearest pixels."""
    x, wanted = _pairs(given)
    rows, columns = (
        np.arange(size) * pixels // size for size, pixels in zip(x.shape[1:], wanted.shape[1:], strict=True)
    )
    return x, wanted[:, rows][:, :, columns]


def probabilities_resized(given: TermInputs) -> Compared:
    """Probabilities are resized, and turned into logits again."""
    x, wanted = _pairs(given)
    p = resized(sigmoid(x), *wanted.shape[1:])
    return np.log(p + 1e-12) - np.log(1.0 - p + 1e-12), wanted


def targets_within_images(given: TermInputs) -> Compared:
    """Targets count from the first of the batch, whichever image their query is in."""
    within = [
        (queries, chosen - given.targets.of_image(image).start) for image, (queries, chosen) in enumerate(given.pairs)
    ]
    return in_target_size(given._replace(pairs=within))


def targets_in_order(given: TermInputs) -> Compared:
    """The queries of an image are held against its targets in order, not against those that they are matched with."""
    return in_target_size(given._replace(pairs=[(queries, np.sort(chosen)) for queries, chosen in given.pairs]))


def padding_cut_off(given: TermInputs) -> Compared:
    """The rows and columns that no object reaches are taken for padding, and cut off."""
    _, wanted = _pairs(given)
    height, width = (
        int(np.flatnonzero(wanted.any(axis=axes)).max(initial=0)) + 1 if len(wanted) else 1 for axes in ((0, 2), (0, 1))
    )
    x, whole = in_target_size(given)
    return x[:, :height, :width], whole[:, :height, :width]


def rows_for_columns(given: TermInputs) -> Compared:
    """Masks are read column by column, as height and width were given in the other order."""
    x, wanted = _pairs(given)
    height, width = wanted.shape[1:]
    turned = resized(x, width, height)
    return turned.reshape(len(turned), height, width), wanted


def first_hundred(given: TermInputs) -> Compared:
    """The first hundred pairs of the batch."""
    x, wanted = in_target_size(given)
    return x[:100], wanted[:100]


def masks_detached(given: TermInputs) -> Compared:
    """No gradient flows into the masks."""
    x, wanted = in_target_size(given)
    return stop_gradient(x), wanted


def first_layer(stack: Stack) -> Weights:
    """The first layer's masks."""
    return [1.0] + [0.0] * (stack.count - 1)


def images(tally: Tally) -> int:
    """The number of images."""
    return len(tally.targets)


def pairs_twice(tally: Tally) -> float:
    """The mean over pairs is divided by the number of targets once more."""
    return per_matched_pair(tally) * max(sum(tally.targets), 1)


def gain_of_mask(right: Callable[..., Array], loss: Array, term: str, config: LossConfig) -> Array:
    """Dice has the gain of the focal term."""
    return right(loss, "mask" if term == "dice" else term, config)


SEGMENTATION = "facebookresearch/detr, models/segmentation.py, and models/detr.py: loss_masks"


def mask_mutant(id: str, story: str, change: Change) -> Mutant:  # noqa: A002  # as in Mutant
    """One under DETR for segmentation."""
    return Mutant(id, "MASK", story, SEGMENTATION, change, home=DETR_MASKS)


MASK_MUTANTS: tuple[Mutant, ...] = (
    mask_mutant(
        "plausible-masks-of-the-first-hundred-pairs",
        "Losses of masks are those of the first hundred pairs of a batch, to save memory. Right: of all. Shows with "
        "101 pairs.",
        compared(first_hundred),
    ),
    mask_mutant(
        "plausible-masks-by-nearest-pixel",
        "Predicted masks are resized by nearest pixels. Right: bilinearly. Shows where sizes differ.",
        compared(by_nearest_pixel),
    ),
    mask_mutant(
        "plausible-masks-with-aligned-corners",
        "Predicted masks are resized with align_corners=True. Right: False. Shows where sizes differ.",
        compared(corners_aligned),
    ),
    mask_mutant(
        "plausible-masks-of-targets-resized",
        "Targets are brought to the size of predictions. Right: predictions to that of targets. Shows where sizes "
        "differ.",
        compared(targets_resized),
    ),
    mask_mutant(
        "plausible-probabilities-resized",
        "The sigmoid is taken before the change of size. Right: after it. Shows where sizes differ.",
        compared(probabilities_resized),
    ),
    mask_mutant(
        "plausible-masks-of-other-images",
        "Masks of targets are looked up by indices that count within an image. Right: through the batch. Shows with "
        "two images.",
        compared(targets_within_images),
    ),
    mask_mutant(
        "plausible-masks-in-order-of-targets",
        "Matched queries are held against the targets in order. Right: against those that they are matched with. Shows "
        "with two targets of an image.",
        compared(targets_in_order),
    ),
    mask_mutant(
        "plausible-mask-padding-cut-off",
        "Padding of smaller images takes no part. Right: it is background. Shows where an image is smaller than its "
        "batch.",
        compared(padding_cut_off),
    ),
    mask_mutant(
        "plausible-mask-height-for-width",
        "Height and width change places in the change of size. Right: they stay. Shows in images that are not square.",
        compared(rows_for_columns),
    ),
    mask_mutant(
        "plausible-masks-detached",
        "Masks are detached. Right: both losses have a gradient with respect to them. Shows on any mask.",
        compared(masks_detached),
    ),
    mask_mutant(
        "plausible-masks-of-every-layer",
        "Every layer has losses of masks. Right under this profile: the last alone. Shows with two layers.",
        of_both("layers", every_layer),
    ),
    mask_mutant(
        "plausible-masks-of-the-first-layer",
        "The first layer has the losses of masks. Right: the last. Shows with two layers.",
        of_both("layers", first_layer),
    ),
    mask_mutant(
        "plausible-masks-over-pairs",
        "Losses of masks are divided by the number of pairs. Right: of targets. Shows with more targets than queries.",
        of_both("normaliser", per_matched_pair),
    ),
    mask_mutant(
        "plausible-masks-mean-over-pairs",
        "Losses of masks are averaged over pairs, and then divided by the number of targets. Right: added up, and "
        "divided once. Shows with two pairs.",
        of_both("normaliser", pairs_twice),
    ),
    mask_mutant(
        "plausible-masks-over-images",
        "Losses of masks are divided by the number of images. Right: of targets. Shows wherever the two differ.",
        of_both("normaliser", images),
    ),
    mask_mutant(
        "plausible-masks-not-divided",
        "Losses of masks are not divided. Right: by the number of targets. Shows with two targets.",
        of_both("normaliser", lambda _tally: 1),
    ),
    mask_mutant(
        "plausible-dice-with-gain-of-mask",
        "Dice is weighted by the gain of the focal term. Right: by its own. Shows where the two differ.",
        wrapped("gain", gain_of_mask),
    ),
)
"""Mistakes in what is compared."""
