"""Mutants in the pairing of denoising queries with targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Matching

Pairs = list[Matching]
Counts = Sequence[int]


def paired(change: Callable[[Pairs, int, Counts], Pairs]) -> Change:
    """Another pairing: a function of the right one, the number of groups, and the counts of targets."""
    return wrapped(
        "denoising.pairs", lambda right, pos, groups, counts, gt: change(right(pos, groups, counts, gt), groups, counts)
    )


def width(pairs: Pairs, groups: int) -> int:
    """M, the number of positive slots of a group."""
    return max(len(targets) for _, targets in pairs) // groups


def rows_for_columns(pairs: Pairs, _groups: int, _counts: Counts) -> Pairs:
    """Slots and targets in each other's place, clipped to what exists."""
    last = max((int(targets.max()) for _, targets in pairs if len(targets)), default=0)
    return [(np.arange(len(slots)), np.minimum(slots, last)) for slots, _ in pairs]


def stride_of_positives(pairs: Pairs, groups: int, _counts: Counts) -> Pairs:
    """Groups of M slots instead of 2 M."""
    step = max(width(pairs, groups), 1)
    return [(slots - slots // (2 * step) * step, targets) for slots, targets in pairs]


def first_group(pairs: Pairs, groups: int, _counts: Counts) -> Pairs:
    """One group, however many there are."""
    return [(slots[: len(slots) // groups], targets[: len(targets) // groups]) for slots, targets in pairs]


def each_target_repeated(pairs: Pairs, _groups: int, _counts: Counts) -> Pairs:
    """Targets 0, 0, 1, 1 instead of 0, 1, 0, 1."""
    return [(slots, np.sort(targets)) for slots, targets in pairs]


def both_halves(pairs: Pairs, groups: int, _counts: Counts) -> Pairs:
    """Positive and negative slots alike."""
    step = width(pairs, groups)
    return [(np.concatenate([slots, slots + step]), np.tile(targets, 2)) for slots, targets in pairs]


def other_half(pairs: Pairs, groups: int, _counts: Counts) -> Pairs:
    """The negative slots."""
    step = width(pairs, groups)
    return [(slots + step, targets) for slots, targets in pairs]


def without_offset(pairs: Pairs, _groups: int, counts: Counts) -> Pairs:
    """Targets counted within each image."""
    return [(slots, targets - sum(counts[:image])) for image, (slots, targets) in enumerate(pairs)]


def previous_offset(pairs: Pairs, groups: int, counts: Counts) -> Pairs:
    """Targets counted from the number of those of the image before."""
    within = without_offset(pairs, groups, counts)
    return [(slots, targets + before) for (slots, targets), before in zip(within, [0, *counts], strict=False)]


def empty_images_last(pairs: Pairs, _groups: int, _counts: Counts) -> Pairs:
    """The pairs of the next image in the place of an empty one."""
    return sorted(pairs, key=lambda pair: len(pair[0]) == 0)


def first_targets(pairs: Pairs, groups: int, counts: Counts) -> Pairs:
    """The first targets of each image, as many as were denoised."""
    of_image = [sum(counts[:image]) + np.arange(len(targets) // groups) for image, (_, targets) in enumerate(pairs)]
    return [(slots, np.tile(targets, groups)) for (slots, _), targets in zip(pairs, of_image, strict=True)]


INDICES = "loss specification, get_dn_match_indices"

DENOISING_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "khub-dn-rows-columns-swapped",
        "DN",
        "The positive slots were used as target indices and 0, 1, 2, … as the slots. Right: slot j of each "
        "group belongs to target j. Shows with two groups.",
        "keras-team/keras-hub, get_cdn_matched_indices",
        paired(rows_for_columns),
    ),
    Mutant(
        "plausible-dn-stride-of-positives",
        "DN",
        "Groups are taken to be M slots apart, so that the second one's pairs are the first one's negatives. Right: 2 "
        "M. Shows with two groups.",
        INDICES,
        paired(stride_of_positives),
    ),
    Mutant(
        "plausible-dn-first-group-only",
        "DN",
        "The slots of the first group are paired, and those of the others are background. Right: all groups. Shows "
        "with two groups.",
        INDICES,
        paired(first_group),
    ),
    Mutant(
        "plausible-dn-each-target-repeated",
        "DN",
        "Targets are repeated one by one, where slots come group after group. Right: the row of targets is repeated. "
        "Shows with two targets and two groups.",
        INDICES,
        paired(each_target_repeated),
    ),
    Mutant(
        "plausible-dn-negatives-as-positives",
        "DN",
        "Negatives are paired with their targets as well. Right: a negative is background. Shows with one target.",
        INDICES,
        paired(both_halves),
    ),
    Mutant(
        "plausible-dn-halves-exchanged",
        "DN",
        "The second half of each group is paired, and the first is background. Right: positives come first. Shows with "
        "one target.",
        INDICES,
        paired(other_half),
    ),
    Mutant(
        "plausible-dn-without-offset",
        "DN",
        "Targets are counted within each image and used on those of the batch. Right: plus the offset of the image. "
        "Shows in the second image.",
        INDICES,
        paired(without_offset),
    ),
    Mutant(
        "plausible-dn-offset-of-previous-image",
        "DN",
        "Targets of an image are offset by the number of those of the image before it. Right: of all images before it. "
        "Shows in the third image.",
        INDICES,
        paired(previous_offset),
    ),
    Mutant(
        "plausible-dn-empty-images-skipped",
        "DN",
        "An image without targets adds no pair, and the next image's take its place. Right: a pair of empty index "
        "arrays. Shows with an empty image that is not the last.",
        INDICES,
        paired(empty_images_last),
    ),
    Mutant(
        "plausible-dn-gt-idx-ignored",
        "DN",
        "Slots are paired with an image's first targets, whichever of them were denoised. Right: those that dn_gt_idx "
        "names. Shows with more targets than num_dn.",
        INDICES,
        paired(first_targets),
    ),
)
