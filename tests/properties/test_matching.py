"""Certificates of matchings, held against every other matching by brute force."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipy_assignment

from detr_conformance.properties.matching import Certificate, certify, is_unambiguous

from ..thorough import thorough_but

Pairs = frozenset[tuple[int, int]]
"""A matching by its (query, target) pairs."""

COST = np.array([[1.0, 5.0], [2.0, 4.0], [9.0, 9.0]])
"""Cheapest is query 0 with target 0 and 1 with 1, at 5; the other way round it is 7."""

NOTHING = np.zeros_like(COST)


def matchings(shape: tuple[int, int]) -> list[Pairs]:
    """Every matching of full size."""
    queries, targets = shape
    if queries < targets:
        return [frozenset(enumerate(chosen)) for chosen in permutations(range(targets), queries)]
    return [frozenset(zip(chosen, range(targets), strict=True)) for chosen in permutations(range(queries), targets)]


def judged(cost: np.ndarray, allowed_error: np.ndarray, pairs: Pairs) -> Certificate:
    """The certificate of a matching given by its pairs."""
    queries, targets = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    return certify(cost, allowed_error, queries, targets)


def total(values: np.ndarray, pairs: Pairs) -> float:
    """Sum over the pairs."""
    return math.fsum(values[pair] for pair in pairs)


def can_be_chosen(cost: np.ndarray, allowed_error: np.ndarray, pairs: Pairs) -> bool:
    """Whether no rival stays cheaper when costs move in favour of the pairs as far as they may."""
    return all(
        total(cost - allowed_error, pairs - rival) <= total(cost + allowed_error, rival - pairs)
        for rival in matchings(cost.shape)
    )


def small_problems(count: int = 600) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Costs and allowed errors in quarters up to 4 × 5 and 5 × 4: sums are exact and ties plentiful."""
    draw = np.random.default_rng(11)
    for number in range(count):
        shape = (int(draw.integers(0, 6)), int(draw.integers(0, 5)))[:: 1 if number % 2 else -1]
        cost = draw.integers(-20, 21, shape) / 4.0
        most = (0, 1, 3, 8)[number % 4]
        yield cost, draw.integers(0, most + 1, shape) * draw.integers(0, 2, shape) / 4.0


@pytest.mark.parametrize("count", thorough_but([150], [150, 600]))
def test_a_matching_is_legal_where_rounding_can_make_it_the_cheapest_and_nowhere_else(count):
    for cost, allowed_error in small_problems(count):
        for pairs in matchings(cost.shape):
            legal = judged(cost, allowed_error, pairs).defect is None
            assert legal == can_be_chosen(cost, allowed_error, pairs), (cost, allowed_error, pairs)


def test_a_problem_is_unambiguous_where_rounding_can_choose_one_matching_only():
    for cost, allowed_error in small_problems():
        choices = sum(can_be_chosen(cost, allowed_error, pairs) for pairs in matchings(cost.shape))
        assert is_unambiguous(cost, allowed_error) == (choices == 1), (cost, allowed_error)


def test_both_answers_are_common_among_the_small_problems():
    answers = [is_unambiguous(*problem) for problem in small_problems() if min(problem[0].shape) > 1]
    assert 0.2 < np.mean(answers) < 0.8


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (40, 40), (300, 12)])
def test_other_solvers_are_certified_without_any_allowance_for_their_costs(shape):
    draw = np.random.default_rng(5)
    for scale in (1.0, 1e-3, 1e4, 10.0 ** draw.integers(-3, 5, shape)):
        cost = draw.normal(size=shape) * scale
        certificate = certify(cost, np.zeros(shape), *scipy_assignment(cost))
        assert certificate.defect is None
        assert certificate.share <= 1.0


def test_sums_that_tie_but_for_the_rounding_of_the_sum_are_ties():
    draw = np.random.default_rng(6)
    cost = np.add.outer(draw.normal(size=30), draw.normal(size=30))
    certificate = certify(cost, np.zeros_like(cost), np.arange(30), draw.permutation(30))
    assert certificate.defect is None
    assert not is_unambiguous(cost, np.zeros_like(cost))


def test_every_tied_optimum_is_legal_and_uses_no_allowance():
    cost = np.ones((4, 3))
    for pairs in matchings(cost.shape):
        certificate = judged(cost, np.zeros_like(cost), pairs)
        assert (certificate.defect, certificate.excess, certificate.share) == (None, 0.0, 0.0)


def test_the_optimum_is_legal_in_any_order_of_its_pairs():
    assert certify(COST, NOTHING, np.array([1, 0]), np.array([1, 0])).defect is None
    assert certify(COST, NOTHING, np.array([0, 1], dtype=np.int32), np.array([0, 1])).share == 0.0


def test_a_swap_that_costs_more_is_described_with_both_sides_and_the_excess():
    certificate = certify(COST, np.full_like(COST, 0.25), np.array([0, 1]), np.array([1, 0]))
    assert certificate.defect == (
        "The pairs (query, target) (0, 1), (1, 0) cost 7, where (0, 0), (1, 1) cost 5: expected at most 1 more, got 2."
    )
    assert (certificate.excess, certificate.allowance) == pytest.approx((2.0, 1.0))
    assert certificate.share == pytest.approx(2.0)


def test_a_swap_within_the_allowed_error_is_legal_and_reports_its_share():
    certificate = certify(COST, np.full_like(COST, 1.0), np.array([0, 1]), np.array([1, 0]))
    assert certificate.defect is None
    assert certificate.share == pytest.approx(0.5)


def test_a_large_error_of_one_exchange_does_not_excuse_another():
    cost = np.full((4, 4), 100.0)
    cost[:2, :2], cost[2:, 2:] = [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.5], [0.5, 0.0]]
    allowed_error = np.zeros_like(cost)
    allowed_error[:2, :2] = 50.0
    certificate = certify(cost, allowed_error, np.arange(4), np.array([1, 0, 3, 2]))
    assert certificate.defect is not None
    assert "(2, 3), (3, 2) cost 1, where (2, 2), (3, 3) cost 0" in certificate.defect


def test_a_long_exchange_is_described_by_its_first_pairs():
    cost = 1.0 - np.eye(9)
    certificate = certify(cost, np.zeros_like(cost), np.arange(9), np.roll(np.arange(9), 1))
    assert certificate.defect is not None
    assert "(0, 8), (1, 0), (2, 1), (3, 2) and 5 more cost 9, where" in certificate.defect


@pytest.mark.parametrize(
    ("queries", "targets", "defect"),
    [
        ([0, 1], [0], "Expected one target for each query, got 2 queries and 1 targets."),
        ([0], [0], "Expected min(queries, targets) = min(3, 2) = 2 pairs, got 1."),
        ([0, 3], [0, 1], "Expected every query in [0, 3), got 3 at pair 1."),
        ([-1, 0], [0, 1], "Expected every query in [0, 3), got -1 at pair 0."),
        ([0, 1], [0, 2], "Expected every target in [0, 2), got 2 at pair 1."),
        ([1, 1], [0, 1], "Expected every query at most once, got query 1 more often."),
        ([0, 1], [1, 1], "Expected every target at most once, got target 1 more often."),
        ([0, 1, 2], [0, 1, 1], "Expected every target at most once, got target 1 more often."),
    ],
)
def test_what_is_no_matching_is_said_in_a_sentence(queries, targets, defect):
    certificate = certify(COST, NOTHING, np.array(queries), np.array(targets))
    assert certificate == Certificate(defect, math.inf, 0.0)
    assert certificate.share == math.inf


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_with_nothing_to_match_the_empty_matching_is_the_only_one(shape):
    cost, nobody = np.zeros(shape), np.zeros(0, dtype=np.int64)
    assert certify(cost, cost, nobody, nobody) == Certificate(None, 0.0, 0.0)
    assert certify(cost, cost, nobody, nobody).share == 0.0
    assert is_unambiguous(cost, cost)


def test_an_entry_that_nothing_is_known_of_makes_its_matchings_legal_and_no_others():
    unknown = NOTHING.copy()
    unknown[0, 1] = math.inf
    assert not is_unambiguous(COST, unknown)
    assert certify(COST, unknown, np.array([0, 1]), np.array([1, 0])).defect is None
    assert certify(COST, unknown, np.array([2, 1]), np.array([0, 1])).defect is not None


@pytest.mark.parametrize("value", [-1e-9, math.nan])
def test_an_allowed_error_that_is_no_bound_is_refused_with_its_place(value):
    allowed_error = NOTHING.copy()
    allowed_error[2, 1] = value
    with pytest.raises(ValueError, match=rf"^allowed_error must be >= 0, got {value} at \[2, 1\]$"):
        is_unambiguous(COST, allowed_error)


def test_an_allowed_error_of_another_shape_is_refused_with_both_shapes():
    unhooked = inspect.unwrap(is_unambiguous)  # where shapes are checked, the check comes first
    with pytest.raises(ValueError, match=r"^allowed_error has shape \(2, 3\), expected \(3, 2\) as cost has$"):
        unhooked(COST, NOTHING.T)
