"""What the reference solver accepts, returns and refuses; `test_assignment.py` asks whether it is right."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pytest

from detr_conformance.reference.assignment import linear_sum_assignment


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_an_empty_side_leaves_everything_unmatched_at_price_zero(shape):
    solved = linear_sum_assignment(np.zeros(shape))
    assert len(solved.rows) == len(solved.columns) == 0
    assert solved.row_potentials.tolist() == [0.0] * shape[0]
    assert solved.column_potentials.tolist() == [0.0] * shape[1]
    assert solved.dual_bound == 0.0


def test_a_solution_can_be_followed_by_hand():
    solved = linear_sum_assignment(np.array([[1.0, 2.0, 9.0], [1.0, 4.0, 9.0]]))
    assert (solved.rows.tolist(), solved.columns.tolist()) == ([0, 1], [1, 0])
    assert solved.row_potentials.tolist() == [2.0, 2.0]
    assert solved.column_potentials.tolist() == [-1.0, 0.0, 0.0]
    assert solved.dual_bound == 3.0


def test_the_result_is_made_of_integers_of_64_bits_and_of_doubles():
    solved = linear_sum_assignment(np.ones((3, 2), dtype=np.float32))
    assert solved.rows.dtype == solved.columns.dtype == np.int64
    assert solved.row_potentials.dtype == solved.column_potentials.dtype == np.float64


def test_the_same_problem_has_the_same_solution_and_is_left_alone():
    cost = np.random.default_rng(3).integers(0, 2, (20, 12)).astype(np.float64)
    kept = cost.copy()
    first, second = linear_sum_assignment(cost), linear_sum_assignment(cost)
    assert (cost == kept).all()
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_a_tall_problem_is_the_transpose_of_a_wide_one():
    cost = np.random.default_rng(4).uniform(size=(9, 5))
    tall, wide = linear_sum_assignment(cost), linear_sum_assignment(cost.T)
    assert set(zip(tall.rows, tall.columns, strict=True)) == set(zip(wide.columns, wide.rows, strict=True))
    assert np.array_equal(tall.row_potentials, wide.column_potentials)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e300])
def test_a_cost_that_cannot_be_added_up_is_named_with_its_place(value):
    cost = np.zeros((2, 3))
    cost[1, 2] = value
    message = f"cost must be finite and within ±1e+300, got {value} at [1, 2]"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        linear_sum_assignment(cost)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_what_is_no_matrix_is_refused_with_its_shape(shape):
    unhooked = inspect.unwrap(linear_sum_assignment)  # where shapes are checked, the check comes first
    with pytest.raises(ValueError, match=r"^cost must be a matrix \(rows, columns\), got shape \("):
        unhooked(np.zeros(shape))
