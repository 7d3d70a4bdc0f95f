"""How each elementwise operation passes rounding error on: the rules behind `rounding.Tracked`.

Every rule takes the exact result and the operands with their bounds, and returns the bound of the result in
units of eps. Where an operation is too steep or jumps within the operands' own error, the result is *open*:
its bound is infinite and nobody is judged by it. That is the case at a kink, such as the derivative of |x| at 0.

Reference: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2 and 3.3, SIAM 2002,
doi 10.1137/1.9780898718027.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Reals = np.ndarray | np.floating[Any] | float | int
"""An array, or one of the numbers that NumPy makes of an array without axes."""


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic that is being judged.

    Attributes:
        eps: distance from 1 to the next number, 2**-23 for float32.
        slack: a value may be off by slack * magnitude * eps; decides on which side of a kink a value surely lies.
    """

    eps: float = 2.0**-23
    slack: float = 16.0

    def reach(self, bound: Reals) -> Reals:
        """How far off, in absolute terms, a value with this bound may be."""
        return self.slack * self.eps * bound


FLOAT32 = Arithmetic()
EXACT = np.zeros(())
"""The bound of everything that is not tracked."""


class Operand(NamedTuple):
    """One argument of an operation: its values and their error bounds."""

    value: Reals
    bound: Reals


def scaled(weight: Reals, bound: Reals) -> Reals:
    """|weight| * bound, and 0 where either is 0: an open entry multiplied by nothing does no harm."""
    return np.fmax(np.abs(weight) * bound, 0.0)  # of 0 and the NaN that 0 times infinity is, fmax takes the 0


def sum_rule(values: np.ndarray, bound: np.ndarray, axis: Any) -> np.ndarray:
    """The terms' own bounds, and one rounding of the terms for every level of a pairwise summation."""
    own = np.asarray(bound.sum(axis=axis))
    levels = 1.0 + math.log2(max(values.size / max(own.size, 1), 1.0))
    return np.asarray(own + levels * np.abs(values).sum(axis=axis))


def _sum_or_difference(result: Reals, _: Arithmetic, a: Operand, b: Operand) -> Reals:
    """A constant plus an exact 0, as 1 - y in the background, is not rounded."""
    if a.bound is EXACT:
        return b.bound + np.where((b.value == 0) & (b.bound == 0), 0.0, np.abs(result))
    return a.bound + b.bound + np.abs(result)


def _product(result: Reals, arithmetic: Arithmetic, a: Operand, b: Operand) -> Reals:
    """The last term is the error of a times that of b: all there is where both values are 0."""
    if _doubles(b):
        return _unless_nan(result, scaled(b.value, a.bound))
    if b.bound is EXACT:  # a constant, as every second factor is; a port's own format may not hold it, such as 0.1
        return scaled(b.value, a.bound) + np.abs(result)
    if _doubles(a):
        return _unless_nan(result, scaled(a.value, b.bound))
    errors = scaled(arithmetic.reach(a.bound), b.bound)
    return scaled(b.value, a.bound) + scaled(a.value, b.bound) + np.abs(result) + errors


def _quotient(result: Reals, arithmetic: Arithmetic, a: Operand, b: Operand) -> Reals:
    """The divisor is taken where it is nearest to 0 within reach; infinite and open, it may be as near as any."""
    if _doubles(b):
        return _unless_nan(result, a.bound / np.abs(b.value))
    nearest = np.abs(b.value) - arithmetic.reach(b.bound)
    bound = (a.bound + scaled(result, b.bound)) / nearest
    # Not "nearest <= 0": infinity less infinity is NaN. A result that is NaN keeps a bound that is NaN, and is judged.
    return np.where((nearest > 0) | (b.bound == 0), bound, np.inf) + np.abs(result)


def _power(result: Reals, arithmetic: Arithmetic, base: Operand, exponent: Operand) -> Reals:
    """For a base >= 0 and a constant exponent >= 0, or several of at least 1.

    The slope is taken where it is steepest within reach.
    """
    power, reach = exponent.value, arithmetic.reach(base.bound)
    least = float(np.min(power))
    if least >= 1.0:
        slope = scaled(power, (base.value + reach) ** (power - 1.0))
        return scaled(base.bound, slope) + np.abs(result)
    if np.ndim(power):
        raise TypeError(f"no rounding rule for several exponents of which the least is {least:g}, expected 1 or more")
    if least == 0.0:
        return np.zeros(np.shape(result))
    slope = scaled(power, (base.value / 2.0) ** (power - 1.0))
    jump = (base.value + reach) ** power / (arithmetic.slack * arithmetic.eps)
    near_zero = (base.value <= 2.0 * reach) & (base.bound > 0)
    return np.where(near_zero, jump, scaled(base.bound, slope)) + np.abs(result)


def _doubles(factor: Operand) -> bool:
    """Whether the factor is one exact power of two, 1 among them: multiplying by it is not rounded."""
    if getattr(factor.value, "ndim", 0) or factor.bound:
        return False
    return abs(math.frexp(factor.value)[0]) == 0.5


def _unless_nan(result: Reals, bound: Reals) -> Reals:
    """The bound, and NaN where the result is: a NaN is judged, however open its operands were."""
    return np.where(np.isnan(result), np.nan, bound)


def _square(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    return _product(result, arithmetic, a, a)


def _square_root(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    return _power(result, arithmetic, a, Operand(np.asarray(0.5), np.asarray(0.0)))


def _unchanged(_result: Reals, _: Arithmetic, a: Operand) -> Reals:
    return a.bound


def _one_of_both(result: Reals, arithmetic: Arithmetic, a: Operand, b: Operand) -> Reals:
    """The bound of the operand that surely is the result; the larger bound where rounding may decide."""
    sure = np.abs(a.value - b.value) > arithmetic.reach(a.bound + b.bound)
    return np.where(sure, np.where(result == a.value, a.bound, b.bound), np.maximum(a.bound, b.bound))


def _exponential(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    """The slope is taken where it is steepest within reach."""
    return scaled(np.exp(a.value + arithmetic.reach(a.bound)), a.bound) + np.abs(result)


def _logarithm(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    """The slope is taken where it is steepest within reach, though not below a sixteenth of the argument.

    Every argument here is a sum of a probability and a positive constant: rounding does not carry it further down.
    """
    nearest = np.maximum(a.value - arithmetic.reach(a.bound), a.value / 16.0)
    return a.bound / nearest + np.abs(result)


def _logarithm_of_one_more(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    return _logarithm(result, arithmetic, Operand(1.0 + a.value, a.bound))


def _arc_tangent(result: Reals, arithmetic: Arithmetic, a: Operand) -> Reals:
    """The slope is taken where it is steepest within reach: at 0 for what is infinite and open, whence `fmax`."""
    steepest = np.fmax(np.abs(a.value) - arithmetic.reach(a.bound), 0.0)
    return a.bound / (1.0 + steepest**2) + np.abs(result)


def _jump(_result: Reals, arithmetic: Arithmetic, a: Operand, *_: Operand) -> Reals:
    """Sign and step are exact, but open where rounding may carry the argument over the jump."""
    return np.where(np.abs(a.value) <= arithmetic.reach(a.bound), np.inf, 0.0)


RULES: dict[np.ufunc, Callable[..., Reals]] = {
    np.add: _sum_or_difference,
    np.subtract: _sum_or_difference,
    np.multiply: _product,
    np.divide: _quotient,
    np.power: _power,
    np.square: _square,
    np.sqrt: _square_root,
    np.negative: _unchanged,
    np.absolute: _unchanged,
    np.minimum: _one_of_both,
    np.maximum: _one_of_both,
    np.exp: _exponential,
    np.log: _logarithm,
    np.log1p: _logarithm_of_one_more,
    np.arctan: _arc_tangent,
    np.sign: _jump,
    np.heaviside: _jump,
}

# Questions about values have plain answers. Whoever branches on one must not depend on the last digits.
EXACT_QUESTIONS = frozenset(
    {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isnan, np.isfinite}
)
