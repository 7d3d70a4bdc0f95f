"""What the bounds of tracked arrays say, and which questions they answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.reference import Arithmetic, Tracked, track

from .in_float32 import single

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # what an operation on a bound returns, NumPy decides


def test_the_bound_of_a_sum_is_one_and_the_levels_of_a_pairwise_summation_times_its_absolute_terms():
    terms = single(64)
    assert np.sum(track(terms)).magnitude == pytest.approx((1 + math.log2(64)) * np.abs(terms.astype(float)).sum())
    table = np.sum(track(single(3, 8, 5)), axis=1)
    assert table.magnitude == pytest.approx(4 * np.abs(single(3, 8, 5).astype(float)).sum(axis=1))


def test_bounds_of_terms_are_passed_on_by_a_sum():
    terms = Tracked(np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0]))
    assert np.sum(terms).magnitude == 10.0


def test_the_bounds_of_sums_products_and_functions_are_those_of_the_docstring():
    a, b = Tracked([3.0], [5.0]), Tracked([2.0], [7.0])
    assert (a + b).magnitude == pytest.approx(5 + 7 + 5)
    assert (a * b).magnitude == pytest.approx(2 * 5 + 3 * 7 + 6, rel=1e-5)
    assert np.exp(a).magnitude == pytest.approx(math.exp(3) * 5 + math.exp(3), rel=1e-4)


def test_a_difference_of_close_numbers_keeps_the_errors_of_both():
    a = track([1.0]) / 3.0
    assert (a - 1 / 3).values == 0
    assert (a - 1 / 3).magnitude == pytest.approx(1 / 3)


def test_inputs_are_exact_and_the_copy_is_our_own():
    values = np.array([1.0, 2.0])
    tracked = track(values)
    tracked[0] = 5.0
    assert values.tolist() == [1.0, 2.0]
    assert not track(values).magnitude.any()


def test_what_is_tracked_already_keeps_its_bound():
    assert track(Tracked([1.0], [3.0])).magnitude == 3.0


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_what_is_made_of_an_infinite_number_that_is_open_is_open(number):
    either = Tracked([number], [math.inf])
    for result in (np.arctan(either), 1.0 / either, either / 2.0, either / 0.0, either**2):
        assert np.isposinf(result.magnitude)


def test_a_quotient_or_an_arc_tangent_that_is_no_number_is_not_open():
    neither = Tracked([math.nan], [math.inf])
    for result in (np.arctan(neither), 1.0 / neither, neither / 2.0):
        assert np.isnan(result.magnitude)


def test_the_arithmetic_decides_how_far_a_jump_is_open():
    near = [1e-6, 1e-3, 1.0]
    coarse, fine = (np.sign(track(near, Arithmetic(eps=eps)) - 0.5 + 0.5) for eps in (2.0**-7, 2.0**-52))
    assert np.isinf(coarse.magnitude).tolist() == [True, True, False]
    assert not np.isinf(fine.magnitude).any()


@pytest.mark.parametrize(
    "operation",
    [
        np.sin,
        np.cumsum,
        np.prod,
        np.max,
        np.mean,
        np.sort,
        np.linalg.norm,
        lambda a: a @ a,
        lambda a: np.dot(a, a),
        lambda a: np.add(a, 1.0, out=a),
        np.multiply.reduce,
        lambda a: np.sum(a, where=a > 0),
        lambda a: np.einsum("i,i->", a, a),
        lambda a: a.max(),
        lambda a: a.__iadd__(1.0),
        lambda a: 1.0 // a,
    ],
)
def test_an_operation_without_a_rule_is_refused(operation):
    with pytest.raises(TypeError, match="no rounding rule for numpy"):
        operation(track([1.0, 2.0]))


def test_questions_about_values_have_plain_answers():
    a = track([1.0, math.nan])
    for answer in (a > 0, a == 1, np.isnan(a), np.isfinite(a)):
        assert type(answer) is np.ndarray
        assert answer.dtype == bool
