"""Rules that list their cases: all there are, and a failing one cut down to what fails."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, prod

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import Matching
from detr_conformance.properties.rules import RULES, match_listed
from detr_conformance.properties.rules.dn_listed import every_batch, every_subset

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # tens of thousands of small problems

RULE = {rule.id: rule for rule in RULES}


def matrices(level: str) -> set[tuple[tuple[float, ...], ...]]:
    """Every matrix of costs that the cases of MATCH-13 hold, with a least cost of 0 in rows and columns together."""
    found = set()
    for case in match_listed.small_problems(level, "focal"):
        targets = case.gt_bboxes[case.of_image(0)]
        distances = np.abs(case.pred_bboxes[:, :, :, None] - targets).sum(axis=-1) / (2 * match_listed.UNIT)
        found |= {tuple(map(tuple, matrix - matrix.min())) for matrix in distances.reshape(-1, *distances.shape[2:])}
    return found


def test_all_matrices_of_three_values_up_to_three_by_three_are_listed():
    # What differs by a constant is the same problem.
    values = {
        tuple(map(tuple, np.reshape(matrix, shape) - min(matrix)))
        for shape in product(range(1, 4), repeat=2)
        for matrix in product(range(3), repeat=prod(shape))
    }
    assert matrices("standard") == values


def test_at_level_smoke_one_matrix_stands_for_all_orders_of_its_rows_and_columns():
    every, some = matrices("standard"), matrices("smoke")
    assert some < every
    assert len(some) < len(every) / 15
    assert {tuple(sorted(sum(each, ()))) for each in some} == {tuple(sorted(sum(each, ()))) for each in every}


@pytest.mark.parametrize("shape", [*product(range(1, 4), repeat=2)], ids=str)
def test_trying_every_matching_finds_what_a_solver_finds(shape):
    for matrix in list(product(range(3), repeat=prod(shape)))[::7]:
        cost = np.reshape(matrix, shape).astype(float)
        assert match_listed._least(cost) == cost[linear_sum_assignment(cost)].sum()


def test_all_small_batches_of_denoising_queries_are_listed():
    listed = [(case.gt_groups, case.denoising.num_group) for case in every_batch("smoke", "focal")]
    wanted = [groups for images in (1, 2, 3) for groups in product(range(4), repeat=images) if any(groups)]
    assert sorted(listed) == sorted(product(wanted, (1, 2, 3)))


def test_all_small_subsets_of_targets_are_listed():
    listed = [tuple(map(len, case.denoising.gt_idx)) for case in every_subset("standard", "focal")]
    wanted = [
        prod(comb(count, min(count, most)) for count in groups)
        for images in (1, 2, 3)
        for groups in product(range(4), repeat=images)
        for most in range(1, max(groups, default=0))
    ]
    assert len(listed) == sum(wanted)
    assert len(list(every_subset("smoke", "focal"))) < len(listed) / 5


class Unmatched(ReferencePort):
    """Takes the first queries for the targets of the image at this place in a batch."""

    def __init__(self, place: int) -> None:
        super().__init__(name="unmatched")
        self.place = place

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        layers = [list(layer) for layer in super().match(case)]
        if self.place < case.images:
            for layer in layers:
                queries, targets = layer[self.place]
                layer[self.place] = (np.arange(len(queries)), np.sort(targets))
        return layers


@pytest.mark.parametrize(("place", "images"), [(0, 1), (2, 3)])
def test_a_failing_list_of_images_is_cut_down_to_those_that_it_takes(place, images):
    outcome = judge(RULE["MATCH-13"], Unmatched(place), level="smoke")
    assert outcome.verdict == "fail"
    assert outcome.case.images == images
    assert "more than the cheapest matching" in outcome.message
    again = judge(RULE["MATCH-13"], Unmatched(place), real_cases=[outcome.case], generate=False)
    assert again.verdict == "fail"


class Moody(ReferencePort):
    """Leaves the first image without pairs, once, and is right ever after."""

    wrong = True

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        layers = [list(layer) for layer in super().match(case)]
        if self.wrong:
            none = np.zeros(0, dtype=np.int64)
            self.wrong, layers[0][0] = False, (none, none)
        return layers


def test_a_port_that_fails_a_listed_case_only_once_is_failed():
    outcome = judge(RULE["MATCH-13"], Moody(name="moody"), level="smoke")
    assert outcome.verdict == "fail"
    assert outcome.message.startswith("the port answers differently when asked again: ")
    assert outcome.case is not None


def test_a_port_without_the_first_classification_loss_is_judged_on_one_that_it_has():
    port = ReferencePort()
    port.capabilities = frozenset({"varifocal", "denoising", "denoising_indices"})
    assert judge(RULE["DN-07"], port, level="smoke").verdict == "pass"
