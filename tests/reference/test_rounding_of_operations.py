"""Every operation hands rounding errors on honestly, and so do random formulas of them."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.reference import Tracked, magnitude, track
from detr_conformance.reference.rounding_rules import FLOAT32

from .in_float32 import shares, single

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # what an operation on a bound returns, NumPy decides

# The operands carry errors of their own, as large as their bounds allow.

OPERATIONS = {
    "add": (np.add, 2),
    "subtract": (np.subtract, 2),
    "multiply": (np.multiply, 2),
    "divide": (np.divide, 2),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
    "negative": (np.negative, 1),
    "absolute": (np.absolute, 1),
    "square": (np.square, 1),
    "arctan": (np.arctan, 1),
    "exp": (np.exp, 1),
    "square root": (lambda a: np.sqrt(abs(a)), 1),
    "log": (lambda a: np.log(abs(a) + 0.01), 1),
    "log1p": (lambda a: np.log1p(abs(a)), 1),
    "sign": (np.sign, 1),
    "step": (lambda a: np.heaviside(a, 0.5), 1),
    "to the 0th": (lambda a: abs(a) ** 0, 1),
    "to the power 1/2": (lambda a: abs(a) ** 0.5, 1),
    "to the power 1": (lambda a: abs(a) ** 1.0, 1),
    "to the power 3/2": (lambda a: abs(a) ** 1.5, 1),
    "squared": (lambda a: a**2, 1),
    "to the power 3": (lambda a: abs(a) ** 3.0, 1),
    "sum": (lambda a: np.sum(a, axis=0), 1),
    "where": (lambda a, b: np.where(np.arange(a.shape[-1]) % 2 == 0, a, b), 2),
    "stack": (lambda a, b: np.stack([a, b]), 2),
    "concatenate": (lambda a, b: np.concatenate([a, b], axis=-1), 2),
    "an entry": (lambda a: a[1:, ..., 3], 1),
    "reshape": (lambda a: a.reshape(-1), 1),
}


def uncertain(seed) -> Tracked:
    """Numbers of all scales, many with errors as large as themselves, some exact, some 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(4, 3000)) * 10.0 ** rng.integers(-6, 2, (4, 3000))
    bounds = np.abs(values) * 10.0 ** rng.integers(-3, 8, (4, 3000)) * (rng.random((4, 3000)) < 0.9)
    return Tracked(np.where(rng.random((4, 3000)) < 0.05, 0.0, values), bounds, FLOAT32)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_operation_turns_errors_within_the_bounds_into_one_beyond(operation, sign):
    function, count = operation
    operands = [uncertain(seed) for seed in range(count)]
    expected = function(*operands)
    for draw in range(8):
        signs = np.random.default_rng(draw).choice([-1.0, 1.0], (count, 4, 3000)) if draw else [sign] * count
        moved = [a.values + FLOAT32.reach(a.magnitude) * by for a, by in zip(operands, signs, strict=True)]
        with np.errstate(all="ignore"):
            error = np.abs(function(*moved) - expected.values)
        reach = FLOAT32.reach(expected.magnitude)
        judged = np.isfinite(reach)
        assert (error[judged] <= reach[judged] * (1 + 1e-6)).all()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_on_exact_numbers_is_off_by_its_own_rounding_at_most(operation):
    function, count = operation
    operands = [single(4, 3000, scale=3, seed=seed) for seed in range(count)]
    expected = function(*(track(each) for each in operands))
    assert shares(function(*operands), expected).max() <= 1


EXACT = ("minimum", "maximum", "negative", "absolute", "where", "stack", "concatenate", "an entry", "reshape")


@pytest.mark.parametrize("name", EXACT)
def test_operations_that_do_not_round_add_nothing(name):
    function, count = OPERATIONS[name]
    assert not magnitude(function(*(track(single(4, 30, seed=seed)) for seed in range(count)))).any()


STEPS = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / np.maximum(abs(b), np.float32(0.5)),
    np.maximum,
    lambda a, _: np.exp(-abs(a)),
    lambda a, _: np.log1p(abs(a)),
    lambda a, _: abs(a) ** np.float32(1.5),
    lambda a, b: np.sum(np.stack([a, b, a]), axis=0),
)


def random_formula(rng, operands):
    """A sum, product, quotient, … of random parts, some of them used twice."""
    pool = list(operands)
    for _ in range(8):
        first, second = rng.integers(0, len(pool), 2)
        pool.append(STEPS[rng.integers(len(STEPS))](pool[first], pool[second]))
    return pool[-1]


@pytest.mark.parametrize("seed", range(60))
def test_random_formulas_in_float32_stay_within_their_bounds(seed):
    operands = [single(200, seed=seed * 3 + number) for number in range(3)]
    expected = random_formula(np.random.default_rng(seed), [track(each) for each in operands])
    got = random_formula(np.random.default_rng(seed), operands)
    assert got.dtype == np.float32
    assert shares(got, expected).max() <= 1


def test_several_exponents_have_a_rule_from_one_on():
    base = track(np.array([0.5, 0.25, 2.0])) * 1.1
    together = base ** np.array([1.0, 1.5, 3.0])
    apart = [base[place] ** power for place, power in enumerate((1.0, 1.5, 3.0))]
    assert together.magnitude.tolist() == [float(each.magnitude) for each in apart]
    with pytest.raises(TypeError, match=r"several exponents of which the least is 0\.5"):
        base ** np.array([0.5, 1.5, 3.0])
