"""Ranks: what a loss is divided by where several batches make one optimiser step.

In data-parallel training every rank has a batch of its own, and the gradients of all ranks are averaged. Only if all
divide by the same number, the mean count of a rank, is that the gradient of the merged batch; it is not where the count
is less than 1 and is taken for 1. With accumulated gradients the micro-batches of a step are added up.

Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects inside the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from detr_conformance.reference.normaliser import LayerTally, Normaliser, Tally

Together = Callable[[str, Normaliser, Tally], int | float]
"""What a term is divided by, from its name, its normaliser, and the tally with those of all ranks or micro-batches."""


def of_own_rank(term: str, normaliser: Normaliser, tally: Tally) -> int | float:
    """Every rank divides by its own count."""
    return normaliser(tally)


def mean_over_ranks(term: str, normaliser: Normaliser, tally: Tally) -> int | float:
    """All ranks divide by the mean of their counts, at least 1; of denoising queries by that times the own groups."""
    mean = joined(tally, tally.ranks, 1.0 / len(tally.ranks))
    if tally.is_denoising and sum(mean.pairs) < tally.groups:  # at least 1, and then times the groups
        mean = replace(mean, pairs=(tally.groups,), targets=(1,))
    return normaliser(mean)


def pairs_over_ranks(term: str, normaliser: Normaliser, tally: Tally) -> int | float:
    """All ranks divide by the mean of their counts, at least 1; of denoising queries those of all groups count."""
    return normaliser(joined(tally, tally.ranks, 1.0 / len(tally.ranks), group_by_group=False))


def boxes_over_ranks(term: str, normaliser: Normaliser, tally: Tally) -> int | float:
    """The weighted mean of the classification loss is that of the rank; boxes are divided by the mean of all counts."""
    return (of_own_rank if tally.about == "classes" else mean_over_ranks)(term, normaliser, tally)


def all_steps(term: str, normaliser: Normaliser, tally: Tally) -> int | float:
    """Micro-batches divide by the count of all of them: their losses add up to those of the merged batch."""
    return normaliser(joined(tally, tally.steps))


def joined(own: Tally, parts: Sequence[LayerTally], share: float = 1.0, group_by_group: bool = True) -> Tally:
    """The images of several batches as those of one, each count times a share.

    Group by group, a target counts in as many groups of denoising queries as the own batch has.
    """
    tallies: list[Tally] = [getattr(each, own.about) for each in parts]
    factors = [share * own.groups / each.groups if group_by_group else share for each in tallies]
    return replace(
        own,
        pairs=tuple(factor * count for factor, each in zip(factors, tallies, strict=True) for count in each.pairs),
        targets=tuple(share * count for each in tallies for count in each.targets),
    )
