"""Arrays that carry a running bound on rounding error, the source of every error budget.

A port computes the same formulas in float32 (or less), in an order of its own. How far its result may be off
depends on the numbers: the width of a small box is the difference of two large coordinates, and loses most of
its digits there. A `Tracked` array therefore carries, beside each value, a *magnitude*: a bound on the error
that anyone makes who evaluates the same expression, in units of the relative precision `eps`. For a sum it is
a small multiple of the sum of the absolute values of the terms; through other operations it grows with their
sensitivity:

    magnitude(sum of n terms a) = sum magnitude(a) + (1 + log2 n) sum |a|
    magnitude(a + b)            = magnitude(a) + magnitude(b) + |a + b|
    magnitude(a * b)            = |b| magnitude(a) + |a| magnitude(b) + |a b|
    magnitude(f(a))             = |f'(a)| magnitude(a) + |f(a)|

up to terms of second order in eps. Inputs have magnitude 0. The formulas of the reference are written for plain
NumPy arrays: NumPy hands each operation on a `Tracked` array to the rules in `rounding_rules.py`. Where a formula
takes a costlier form for the sake of its bound, a comment says so. An operation without a rule raises `TypeError`,
so that no bound is lost in silence.

Reference: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3 (running error
analysis), SIAM 2002, doi 10.1137/1.9780898718027.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from detr_conformance.reference.rounding_rules import (
    EXACT,
    EXACT_QUESTIONS,
    FLOAT32,
    RULES,
    Arithmetic,
    Operand,
    sum_rule,
)

__all__ = ["FLOAT32", "Arithmetic", "Tracked", "arithmetic_of", "magnitude", "plain", "track", "tracked_like"]


class Tracked(np.ndarray):
    """A float64 array with a bound on the rounding error of each entry, in units of `arithmetic.eps`."""

    magnitude: np.ndarray
    arithmetic: Arithmetic

    def __new__(
        cls, values: Shaped[Any, "*shape"], magnitude: Shaped[Any, "*shape"], arithmetic: Arithmetic = FLOAT32
    ) -> Tracked:
        """Pair values with their bounds, of the same shape; both become float64."""
        return _paired(np.asarray(values, dtype=np.float64), np.asarray(magnitude, dtype=np.float64), arithmetic)

    @property
    def values(self) -> np.ndarray:
        """The values alone."""
        return self.view(np.ndarray)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply an elementwise NumPy function to the values, and its rule to the bounds."""
        operands = []
        for each in inputs:
            if isinstance(each, Tracked):
                operands.append(Operand(each.view(np.ndarray), each.magnitude))
            elif hasattr(each, "tracked"):
                return NotImplemented  # a variable of the tape has its own way
            else:
                operands.append(Operand(each, EXACT))
        if ufunc is np.add and method == "reduce":
            return _sum(*inputs, **options)
        values = [value for value, _ in operands]
        rule = RULES.get(ufunc)
        if rule is None and ufunc in EXACT_QUESTIONS:
            return getattr(ufunc, method)(*values, **options)
        if rule is None or method != "__call__" or options:
            raise TypeError(f"no rounding rule for numpy.{ufunc.__name__} ({method} with options {sorted(options)})")
        with np.errstate(all="ignore"):
            result = np.asarray(ufunc(*values))
            bound = np.asarray(rule(result, self.arithmetic, *operands))
        if bound.shape != result.shape:
            bound = np.broadcast_to(bound, result.shape)
        return _paired(result, bound, self.arithmetic)

    def __pow__(self, exponent: Any, _modulo: None = None, /) -> Any:
        """The square or the power; NumPy itself takes other functions for exponents such as 0 and 1."""
        is_two = isinstance(exponent, (int, float)) and exponent == 2
        return np.square(self) if is_two else np.power(self, exponent)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Apply a NumPy function that only moves entries around to values and bounds alike."""
        if any(hasattr(kind, "tracked") for kind in types):
            return NotImplemented  # likewise
        if func not in _REARRANGEMENTS:
            raise TypeError(f"no rounding rule for numpy.{func.__name__}")
        return _REARRANGEMENTS[func](*args, **kwargs)

    def __getitem__(self, key: Any) -> Tracked:
        """Select entries together with their bounds; a single entry comes as an array of shape ()."""
        return _paired(np.asarray(self.values[key]), np.asarray(self.magnitude[key]), self.arithmetic)

    def __setitem__(self, key: Any, entries: Any) -> None:
        """Overwrite entries together with their bounds."""
        self.values[key] = plain(entries)
        self.magnitude[key] = magnitude(entries)

    def reshape(self, *shape: Any, **_: Any) -> Tracked:
        """The same entries and bounds in another shape."""
        return Tracked(self.values.reshape(*shape), self.magnitude.reshape(*shape), self.arithmetic)


def _paired(values: np.ndarray, magnitude: np.ndarray, arithmetic: Arithmetic) -> Tracked:
    """`Tracked` of arrays that are float64 already."""
    tracked = values.view(Tracked)
    tracked.magnitude = magnitude
    tracked.arithmetic = arithmetic
    return tracked


def track(values: Shaped[Any, "*shape"], arithmetic: Arithmetic = FLOAT32) -> Float[Tracked, "*shape"]:
    """Start tracking: inputs reach every port unrounded, so their bound is 0. A tracked array stays as it is."""
    if isinstance(values, Tracked):
        return values
    return Tracked(np.array(values, dtype=np.float64), np.zeros(np.shape(values)), arithmetic)


def tracked_like(array: Any, values: Shaped[Any, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Constants for a formula on this array: tracked, for the same arithmetic, if the array is."""
    array = getattr(array, "tracked", array)
    return track(values, array.arithmetic) if isinstance(array, Tracked) else np.array(values, dtype=np.float64)


def plain(array: Any) -> Any:
    """The values of a tracked array or of a variable of the tape; anything else as it is."""
    array = getattr(array, "tracked", array)
    return array.values if isinstance(array, Tracked) else array


def magnitude(array: Any) -> np.ndarray:
    """The bound of each entry in units of eps; 0 for anything untracked, whose entries are exact."""
    array = getattr(array, "tracked", array)
    return array.magnitude if isinstance(array, Tracked) else np.zeros(np.shape(array))


def arithmetic_of(array: Any) -> Arithmetic:
    """That of the port under test, which the array carries; float32 if it carries none."""
    array = getattr(array, "tracked", array)
    return array.arithmetic if isinstance(array, Tracked) else FLOAT32


def _sum(array: Tracked, axis: Any = None, **options: Any) -> Tracked:
    unset = (None, False, np._NoValue)
    if not all(any(option is each for each in unset) for option in options.values()):
        raise TypeError(f"no rounding rule for numpy.sum with options {sorted(options)}")
    bound = sum_rule(array.values, array.magnitude, axis)
    return Tracked(array.values.sum(axis=axis), bound, array.arithmetic)


def _where(condition: np.ndarray, chosen: Any, otherwise: Any) -> Tracked:
    arithmetic = next(each.arithmetic for each in (chosen, otherwise) if isinstance(each, Tracked))
    values = np.where(condition, plain(chosen), plain(otherwise))
    return Tracked(values, np.where(condition, magnitude(chosen), magnitude(otherwise)), arithmetic)


def _joining(join: Callable[..., np.ndarray]) -> Callable[..., Tracked]:
    def joined(arrays: Any, axis: int = 0) -> Tracked:
        arithmetic = next(each.arithmetic for each in arrays if isinstance(each, Tracked))
        values = join([plain(each) for each in arrays], axis=axis)
        return Tracked(values, join([magnitude(each) for each in arrays], axis=axis), arithmetic)

    return joined


def _zeros_like(array: Tracked) -> Tracked:
    return track(np.zeros(array.shape), array.arithmetic)


_REARRANGEMENTS: dict[Any, Callable[..., Tracked]] = {
    np.sum: _sum,
    np.where: _where,
    np.stack: _joining(np.stack),
    np.concatenate: _joining(np.concatenate),
    np.zeros_like: _zeros_like,
}
