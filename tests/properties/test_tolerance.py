"""The error budget: rounding to each dtype, and what share of a budget an error takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detr_conformance.properties import oracle
from detr_conformance.properties.tolerance import PRECISIONS, UNITS, allowed_error, budget_shares, rounded
from detr_conformance.reference import ULTRALYTICS, MatcherConfig
from detr_conformance.reference.rounding import Tracked

from .sample_cases import small_case

DTYPES = sorted(PRECISIONS)
BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
LARGEST = {"float16": 65504.0, "bfloat16": float.fromhex("0x1.fep127"), "float32": float.fromhex("0x1.fffffep127")}
EXTREMES = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-45,
    1e-320,
    2.0**-24,
    2.0**-25,
    3 * 2.0**-26,
    2.0**-133,
    1e39,
    -1e300,
]
EXTREMES += [
    each * factor for each in LARGEST.values() for factor in (1.0, 1.0 + 2.0**-12, 1.0 + 2.0**-9, 1.002, -1.01)
]
EXTREMES += [1.0 + odd * 2.0**-bits for bits in BITS.values() for odd in (1, 3, -1)]  # half-way between neighbours


def alike(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal with the same sign of zero; NaN equals NaN."""
    same = (got == wanted) & (np.signbit(got) == np.signbit(wanted))
    return bool((same | (np.isnan(got) & np.isnan(wanted))).all())


def by_torch(values: np.ndarray, dtype: str) -> np.ndarray:
    torch = pytest.importorskip("torch")
    return torch.tensor(values).to(getattr(torch, dtype)).double().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_ties_and_denormals_are_rounded_as_torch_rounds_them(dtype):
    values = np.array(EXTREMES)
    assert alike(rounded(values, dtype), by_torch(values, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@given(values=st.lists(st.floats(), max_size=20))
def test_any_number_is_rounded_as_torch_rounds_it(dtype, values):
    values = np.array(values, dtype=np.float64)
    assert alike(rounded(values, dtype), by_torch(values, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@given(value=st.floats())
def test_a_rounded_number_stays_as_it_is(dtype, value):
    once = rounded(np.array([value]), dtype)
    assert alike(rounded(once, dtype), once)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eps_and_the_smallest_normal_number_are_those_of_the_format(dtype):
    torch = pytest.importorskip("torch")
    limits = torch.finfo(getattr(torch, dtype))
    assert (PRECISIONS[dtype].eps, PRECISIONS[dtype].smallest) == (limits.eps, limits.smallest_normal)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_allowed_error_is_a_multiple_of_the_magnitude_and_never_0(dtype):
    expected = Tracked(np.zeros(3), np.array([0.0, 5.0, np.inf]))
    precision = PRECISIONS[dtype]
    budget = [precision.smallest, UNITS * precision.eps * 5.0 + precision.smallest, np.inf]
    assert allowed_error(expected, dtype).tolist() == budget


BUDGET = UNITS * PRECISIONS["float32"].eps
"""Of a value of magnitude 1."""

SHARES = {
    "equal": (1.0, 1.0, 1.0, 0.0),
    "half of the budget off": (1.0, 1.0 + BUDGET / 2, 1.0, 0.5),
    "twice the budget off": (1.0, 1.0 - 2 * BUDGET, 1.0, 2.0),
    "off where nothing is granted": (0.0, 1e-30, 0.0, 1e-30 / PRECISIONS["float32"].smallest),
    "off where all is open": (1.0, 7.0, np.inf, 0.0),
    "NaN where all is open": (1.0, np.nan, np.inf, 0.0),
    "NaN on both sides": (np.nan, np.nan, np.nan, 0.0),
    "NaN expected": (np.nan, 1.0, np.nan, np.inf),
    "NaN returned": (1.0, np.nan, 1.0, np.inf),
    "infinity on both sides": (np.inf, np.inf, np.nan, 0.0),
    "infinity of the other sign": (np.inf, -np.inf, np.nan, np.inf),
    "infinity expected": (np.inf, 1e30, np.nan, np.inf),
    "infinity returned": (1.0, -np.inf, 1.0, np.inf),
    "a budget that is NaN": (1.0, 2.0, np.nan, np.inf),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_share_is_the_error_over_the_budget(name):
    wanted, got, magnitude, share = SHARES[name]
    expected = Tracked(np.array([wanted]), np.array([magnitude]))
    assert budget_shares(np.array([got]), expected, "float32") == pytest.approx(share, rel=1e-6)


def test_a_loss_without_axes_has_a_share_without_axes():
    shares = budget_shares(np.array(1.0), Tracked(np.array(1.0), np.array(1.0)), "float32")
    assert shares.shape == ()


def test_the_budget_of_a_cost_counts_the_corners_of_the_target_too():
    large, small = np.array([0.5, 0.5, 0.375, 0.375]), np.array([0.5, 0.5, 2.0**-10, 2.0**-10])
    config = MatcherConfig(cost_gain={"class": 0.0, "bbox": 0.0, "giou": 1.0})

    def budget(pred, target):
        case = small_case(
            pred_bboxes=np.tile(pred, (2, 3, 4, 1)), gt_bboxes=np.tile(target, (3, 1)), matcher=config, denoising=None
        )
        return oracle.matching_costs(case, ULTRALYTICS)[0][0].magnitude

    np.testing.assert_allclose(budget(large, small), budget(small, large), rtol=1e-3)
