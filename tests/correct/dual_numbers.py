"""Numbers that carry their derivatives with respect to the four of a box: automatic differentiation in plain Python."""

from __future__ import annotations

import math

ZERO = (0.0,) * 4


class Dual:
    """A value and its four partial derivatives."""

    def __init__(self, value, slope=ZERO):
        self.value, self.slope = value, slope

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, tuple(map(sum, zip(self.slope, other.slope, strict=True))))

    def __neg__(self):
        return Dual(-self.value, tuple(-each for each in self.slope))

    def __sub__(self, other):
        return self + -dual(other)

    def __rsub__(self, other):
        return dual(other) - self

    def __mul__(self, other):
        other = dual(other)
        pairs = zip(self.slope, other.slope, strict=True)
        return Dual(self.value * other.value, tuple(a * other.value + self.value * b for a, b in pairs))

    def __truediv__(self, other):
        quotient = self.value / other.value
        pairs = zip(self.slope, other.slope, strict=True)
        return Dual(quotient, tuple((a - quotient * b) / other.value for a, b in pairs))

    def __abs__(self):
        return -self if self.value < 0 else self

    __radd__, __rmul__ = __add__, __mul__


def dual(number):
    return number if isinstance(number, Dual) else Dual(number)


def variables(numbers):
    """Four numbers, each with derivative 1 by itself."""
    return [Dual(each, tuple(float(axis == own) for axis in range(4))) for own, each in enumerate(numbers)]


def smaller(a, b):
    a, b = dual(a), dual(b)
    return b if b.value < a.value or math.isnan(b.value) else a


def larger(a, b):
    a, b = dual(a), dual(b)
    return b if b.value > a.value or math.isnan(b.value) else a
