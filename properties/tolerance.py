"""How far off a port may be: the only place with a number.

A loss is a sum, and rounding moves it by a small multiple of eps times the sum of the absolute values of its terms.
The reference reports that sum, grown by the sensitivity of every step, as the *magnitude* of each value and of each
gradient entry (`detr_conformance.reference.rounding`). So

    allowed error = UNITS * eps(dtype) * magnitude + smallest positive number of the dtype

and a comparison yields the *share* of the budget that was used: 1 and below passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.rounding import Arithmetic, Tracked

UNITS = 8.0
"""Roundings granted for each that the bound counts: other orders of evaluation, other libraries' exp and log."""

FALSE_ALARM = 1e-13
"""Probability that a statistical test accuses a correct generator, at each look. A judgement at level exhaustive takes
a few thousand looks: all of them together stay below 1e-9."""


@dataclass(frozen=True)
class Precision:
    """A floating-point format.

    Attributes:
        eps: distance from 1 to the next number.
        smallest: smallest positive normal number; below it, and after flushing to zero, digits are lost.
    """

    eps: float
    smallest: float


PRECISIONS = {
    "float16": Precision(2.0**-10, 2.0**-14),
    "bfloat16": Precision(2.0**-7, 2.0**-126),
    "float32": Precision(2.0**-23, 2.0**-126),
    "float64": Precision(2.0**-52, 2.0**-1022),
}


def arithmetic(dtype: str) -> Arithmetic:
    """The arithmetic in which a port that is given predictions of this dtype is judged."""
    return Arithmetic(eps=PRECISIONS[dtype].eps, slack=UNITS)


def allowed_error(expected: Tracked, dtype: str) -> Float[np.ndarray, "..."]:
    """The budget of each entry; infinite where the entry is left open.

    A number that takes no rounding, as a gain of 2 times a sign, may be off by one: mmdetection divides by N + eps.
    """
    magnitude = np.where(expected.magnitude == 0.0, np.abs(expected.values), expected.magnitude)
    return np.asarray(UNITS * PRECISIONS[dtype].eps * magnitude + PRECISIONS[dtype].smallest)


def budget_shares(got: Float[np.ndarray, "*shape"], expected: Float[Tracked, "*shape"], dtype: str) -> np.ndarray:
    """Error over budget, entry by entry; 0 where both agree that there is no number, infinite where only one does.

    Args:
        got: what the port returned.
        expected: what the reference returned.
        dtype: dtype of the predictions that the port was given.

    Returns:
        Shares of at least 0, of the common shape.
    """
    values = expected.values
    with np.errstate(all="ignore"):
        shares = np.abs(got - values) / allowed_error(expected, dtype)
    alike = (got == values) | (np.isnan(got) & np.isnan(values))
    broken = ~np.isfinite(got) | ~np.isfinite(values) | np.isnan(shares)
    return np.where(alike | np.isinf(expected.magnitude), 0.0, np.where(broken, np.inf, shares))


def rounded(values: Float[np.ndarray, "*shape"], dtype: str) -> Float[np.ndarray, "*shape"]:
    """The nearest numbers that the dtype can hold, as float64; infinite beyond its largest one."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return np.asarray(values).astype(np.dtype(dtype)).astype(np.float64)
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    nearest_even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    kept = np.where(np.isfinite(values), nearest_even, bits) & np.uint32(0xFFFF0000)
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)
