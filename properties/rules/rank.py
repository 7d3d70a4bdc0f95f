"""RANK: what a loss is divided by where several batches make one optimiser step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.properties.additions import empty_images
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import term_of
from detr_conformance.properties.failing_where import failing_where
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import averages_over_ranks, divides_by_counts
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import images_of_one_size, shared_out
from detr_conformance.reference import Losses, Tracked
from detr_conformance.reference.keys import TERMS

TWO_RANKS = Request(layers=(1, 3), images=(2, 4), targets=(1, 4), denoising="never", special=(), real=False)
THREE_RANKS = replace(TWO_RANKS, images=(3, 4))
OF_DETR = "Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects inside the batch"


@rule("RANK-01", source=OF_DETR, request=TWO_RANKS, needs={"ranks"})
def losses_of_two_ranks(port: PortUnderTest, case: LossCase) -> None:
    """Of two ranks of a data-parallel run each divides its losses by what the profile says: by the mean over the ranks
    of what they count, or by its own count."""
    _assert_ranks(port, shared_out(case, 2))


@rule("RANK-02", source=OF_DETR, request=THREE_RANKS, needs={"ranks"})
def a_rank_without_targets(port: PortUnderTest, case: LossCase) -> None:
    """A rank whose batch has no target returns its losses like any other, and no rank waits for it: that of its
    background, and no box loss. It counts among those that the profile's normaliser is averaged over."""
    _assert_ranks(port, shared_out(empty_images(case, {0}), 3))


@rule(
    "RANK-03",
    source=OF_DETR,
    request=replace(THREE_RANKS, denoising="sometimes"),
    needs={"ranks"},
    among=divides_by_counts,
)
def mean_over_ranks(port: PortUnderTest, case: LossCase) -> None:
    """Where the profile's ranks divide by a mean count, the mean over the ranks of each loss of classes and boxes is
    that of the merged batch, if this has as many targets as there are ranks. Where each divides by its own, a rank
    returns what it returns alone."""
    case = images_of_one_size(case)  # of masks, which decide who is matched: a rank has padding of its own
    ranks = shared_out(case, 3)
    expected, of_ranks = port.expected(case), port.expected_of_ranks(ranks)
    merged, returned = port.loss(case), port.losses_of_ranks(ranks)
    for key in filter(_adds_up, expected):
        averages = _averages(port, case, key)
        if averages:
            _assert_combined(returned, key, 1.0 / len(ranks), merged, (expected, *of_ranks))
        for rank, alone in zip(returned, ranks, strict=True) if averages is False else ():
            rank.assert_alike(port.loss(alone), key, port.expected(alone)[key])


@rule("RANK-04", source=OF_DETR, request=THREE_RANKS, needs={"ranks", "gradients"})
def gradients_of_ranks(port: PortUnderTest, case: LossCase) -> None:
    """The gradients of each rank's losses with respect to its own predictions are divided by what its losses are
    divided by, also where a rank has no target."""
    ranks = shared_out(empty_images(case, {case.images - 1}), 3)
    for returned, expected in zip(port.losses_of_ranks(ranks), port.expected_of_ranks(ranks), strict=True):
        returned.assert_gradients(expected)


@rule("RANK-05", source=OF_DETR, request=replace(THREE_RANKS, images=(3, 3), targets=(0, 1)), needs={"ranks"})
def fewer_targets_than_ranks(port: PortUnderTest, case: LossCase) -> None:
    """A count is at least 1 after it has been averaged over the ranks, and not before: with fewer targets than ranks
    each divides by 1 where the profile's ranks divide by a mean count."""
    _assert_ranks(port, shared_out(empty_images(case, {case.images - 1}), 3))


@rule("RANK-06", source=OF_DETR, request=replace(TWO_RANKS, images=(1, 3), targets=(0, 4)), needs={"ranks"})
def a_single_rank(port: PortUnderTest, case: LossCase) -> None:
    """A data-parallel run of a single rank returns what the loss returns without one."""
    expected, alone = port.expected(case), port.loss(case)
    [rank] = port.losses_of_ranks([case])
    for key in expected:
        rank.assert_alike(alone, key, expected[key])


@rule("RANK-07", source=OF_DETR, request=replace(TWO_RANKS, targets=(0, 3), denoising="always"), needs={"ranks"})
def denoising_losses_of_ranks(port: PortUnderTest, case: LossCase) -> None:
    """The losses of denoising queries are divided by what the profile's normaliser counts on all ranks, or on this one,
    as the ordinary ones are. A rank without a target has no denoising queries, and counts as having none."""
    _assert_ranks(port, shared_out(case, 2))


@rule(
    "RANK-08",
    source=f"{OF_DETR}; of a step whose gradients are accumulated that is all micro-batches",
    request=replace(TWO_RANKS, targets=(0, 4), denoising="sometimes"),
    needs={"normaliser"},
)
def losses_of_micro_batches(port: PortUnderTest, case: LossCase) -> None:
    """Where the loss is told what all micro-batches of an optimiser step are divided by, their losses of boxes add up
    to those of the merged batch, and those of classes if all have the same classification loss."""
    case = images_of_one_size(case)  # as in `mean_over_ranks`
    steps = shared_out(case, 2)
    if not all(each.targets for each in steps):  # a step without a target has no denoising queries, and their losses
        case = case.change(denoising=None)
        steps = shared_out(case, 2)
    expected, of_steps = port.expected(case), port.expected_of_steps(steps)
    merged, returned = port.loss(case), port.losses_of_steps(steps)
    # A batch without targets may have another one.
    terms = {port.spec.choose_class_term(port.config(case), min(each.targets, 1)) for each in (case, *steps)}
    for key in filter(_adds_up, expected):
        if len(terms) == 1 or term_of(key) != "class":
            _assert_combined(returned, key, 1.0, merged, (expected, *of_steps))


@rule(
    "RANK-09",
    source=f"{OF_DETR}; of a step whose gradients are accumulated that is all micro-batches",
    request=replace(TWO_RANKS, targets=(0, 4)),
    needs={"normaliser", "gradients"},
)
def gradients_of_micro_batches(port: PortUnderTest, case: LossCase) -> None:
    """The gradients of such losses with respect to the predictions of each micro-batch are those of the merged
    batch."""
    steps = shared_out(case, 2)
    for returned, expected in zip(port.losses_of_steps(steps), port.expected_of_steps(steps), strict=True):
        returned.assert_gradients(expected)


def _assert_ranks(port: PortUnderTest, ranks: Sequence[LossCase]) -> None:
    """Every loss of every rank within its budget; a failure says which rank it is."""
    __tracebackhide__ = True
    expected = port.expected_of_ranks(ranks)
    counts = ", ".join(str(each.targets) for each in ranks)
    for rank, (returned, wanted) in enumerate(zip(port.losses_of_ranks(ranks), expected, strict=True)):
        with failing_where(f"rank {rank} of {len(ranks)}, which have {counts} targets"):
            returned.assert_values(wanted)


def _adds_up(key: str) -> bool:
    """Whether a loss is a sum over images. One of masks depends on how far the batch is padded."""
    return term_of(key) in TERMS


def _averages(port: PortUnderTest, case: LossCase, key: str) -> bool | None:
    """Whether the ranks divide a loss by their mean count; see `averages_over_ranks`."""
    term = term_of(key)
    name = port.spec.choose_class_term(port.config(case), 1) if term == "class" else term
    return averages_over_ranks(port.spec, name)


def _assert_combined(
    returned: Sequence[ReturnedLosses], key: str, share: float, merged: ReturnedLosses, expected: Iterable[Losses]
) -> None:
    """The sum of a loss over several batches, times a share, is that of the merged batch, within all their budgets."""
    __tracebackhide__ = True
    budgets = sum(each[key].magnitude for each in expected)
    together = share * sum(float(each.value(key)) for each in returned)
    what = f"{'the mean over ranks' if share != 1.0 else 'the sum over micro-batches'} of {key}"
    merged.judged.compare(
        what, np.asarray(together), Tracked(merged.value(key), np.asarray(budgets)), merged.case.dtype
    )
