"""Mutants of LW-DETR's groups of queries."""

from __future__ import annotations

from functools import partial

from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.base_spec import one_group
from detr_conformance.reference.family import LWDETR, RFDETR
from detr_conformance.reference.normaliser import Normaliser, Tally, per_matched_pair, per_target

GROUPS = "Chen et al., Group DETR, arXiv 2207.13085, section 3.2"

group_mutant = partial(Mutant, home=LWDETR)


def every_loss_over(normaliser: Normaliser) -> Change:
    """All losses divided by something else."""

    def change(spec: LossSpec) -> LossSpec:
        return replace_in(spec, "normaliser", dict.fromkeys(spec.normaliser, normaliser))

    return change


def groups_twice(tally: Tally) -> int | float:
    """The targets times the square of the groups."""
    return max(sum(tally.targets) * tally.query_groups**2, 1)


def clamped_before_groups(tally: Tally) -> int | float:
    """The targets, at least 1, times the groups."""
    return max(sum(tally.targets), 1) * tally.query_groups


def clamped_in_each_image(tally: Tally) -> int | float:
    """The targets of each image, at least 1, times the groups."""
    return sum(max(count, 1) for count in tally.targets) * tally.query_groups


QUERY_GROUP_MUTANTS: tuple[Mutant, ...] = (
    group_mutant(
        "plausible-groups-matched-together",
        "MATCH",
        "All queries are matched together, as in evaluation. Right: each group on its own. Shows with two groups.",
        GROUPS,
        lambda spec: replace_in(spec, "query_groups", one_group),
    ),
    group_mutant(
        "plausible-groups-not-in-normaliser",
        "MATCH",
        "Losses are divided by the number of targets. Right: times that of the groups. Shows with two groups.",
        GROUPS,
        every_loss_over(per_target),
    ),
    group_mutant(
        "plausible-groups-twice-in-normaliser",
        "MATCH",
        "Losses are divided by the groups twice. Right: once. Shows with two groups.",
        GROUPS,
        every_loss_over(groups_twice),
        home=RFDETR,
    ),
    group_mutant(
        "plausible-normaliser-clamped-before-groups",
        "MATCH",
        "The number of targets is made at least 1 before it is multiplied by the groups. Right: after. Shows in a "
        "batch without targets and with two groups.",
        GROUPS,
        every_loss_over(clamped_before_groups),
    ),
    group_mutant(
        "plausible-normaliser-clamped-in-each-image",
        "CLASS",
        "An image without targets counts as one target in the normaliser. Right: the batch is at least 1. Shows with "
        "such an image.",
        GROUPS,
        every_loss_over(clamped_in_each_image),
    ),
    group_mutant(
        "plausible-groups-over-pairs",
        "MATCH",
        "Losses are divided by the matched pairs of all groups. Right: by targets times groups. Shows with fewer "
        "queries than targets.",
        GROUPS,
        every_loss_over(per_matched_pair),
        home=RFDETR,
    ),
)
