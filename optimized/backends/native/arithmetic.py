"""Functions of one float32 for the compiled loops, written so that these are vectorised."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from detr_conformance.optimized.backends.native.jit import inlined

F = np.float32
INT = np.int32
ONE, TWO, HALF, ZERO = F(1), F(2), F(0.5), F(0)
LOG2_E = F(1.4426950408889634)
LOG_2_HIGH, LOG_2_LOW = F(0.693359375), F(-2.1219444005469058e-4)
LOG_2 = F(0.6931471805599453)
ROOT_HALF_BITS = INT(0x3F3504F3)
"""The bits of the root of a half: from there to twice as much a logarithm is smallest."""


@inlined
@no_type_check
def exp_of_negative(x):
    """exp(x) for x <= 0, or NaN; subnormal numbers included.

    The multiple of log 2 next to x is taken off in two pieces, the first of them exact. exp of the rest r, at most 0.35
    in magnitude, is 1 + r + r^2 times a polynomial that was fitted to the least relative error, 3.1e-9.
    """
    x = max(x, F(-150))  # 0, and no exponent beyond what an integer holds
    doublings = np.floor(x * LOG2_E + HALF)
    r = (x - doublings * LOG_2_HIGH) - doublings * LOG_2_LOW
    total = (F(0.001381489918) * r + F(0.008368721241)) * r + F(0.04166838411)
    total = (total * r + F(0.1666652056)) * r + F(0.4999999345)
    # In two steps: the power of two of a subnormal result is none itself.
    whole = INT(doublings)
    half = whole >> INT(1)
    first, second = INT((half + INT(127)) << INT(23)), INT((whole - half + INT(127)) << INT(23))
    return (total * (r * r) + r + ONE) * first.view(F) * second.view(F)


@inlined
@no_type_check
def artanh(z):
    """Inverse hyperbolic tangent of z from -1 / 3 to 1 / 3, by four coefficients of least relative error, 4.5e-9."""
    square = z * z
    total = (F(0.14006083) * square + F(0.14000886)) * square + F(0.20010765)
    total = (total * square + F(0.33333208)) * square + ONE
    return z * total


@inlined
@no_type_check
def log(x):
    """The logarithm of x of at least 1e-30; anything for NaN.

    x is m times a power of two, m from the root of a half to that of two, and log(m) = 2 artanh((m - 1) / (m + 1)).
    """
    bits = F(x).view(INT)
    doublings = INT((bits - ROOT_HALF_BITS) >> INT(23))
    m = INT(bits - (doublings << INT(23))).view(F)
    return F(doublings) * LOG_2 + TWO * artanh((m - ONE) / (m + ONE))


@inlined
@no_type_check
def logistic(x):
    """p = sigmoid(x), 1 - p, and log(1 + exp(-|x|)), which is what -log(p) and -log(1 - p) are beside x.

    None of them by way of another that has lost its digits.
    """
    e = exp_of_negative(-abs(x))
    larger = ONE / (ONE + e)
    smaller = e * larger
    shared = TWO * artanh(e / (TWO + e))  # log(1 + e) would have lost the digits of a small e
    p, rest = (smaller, larger) if x < ZERO else (larger, smaller)
    return p, rest, shared


@inlined
@no_type_check
def softplus(x, shared):
    """-log(1 - p), with what `logistic` returns last."""
    return (max(x, ZERO)) + shared


@inlined
@no_type_check
def power(x, shared, gamma):
    """p^gamma for an exponent that no product gives; 0 for NaN.

    The exponent is -gamma softplus(-x) in float64, for a rounding of it would count as often as it is large.
    """
    exponent = -gamma * (np.float64(ZERO if x > ZERO else -x) + np.float64(shared))
    exponent = max(-200.0, exponent)
    rounded = F(exponent)
    return exp_of_negative(rounded) * (ONE + F(exponent - rounded))
