"""Functions of one number for the kernels, exact to a few roundings whatever the argument."""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def exp_of_negative(x):
    """exp(x) for x <= 0, or NaN.

    The instruction that Triton uses for exp takes x / log 2, whose rounding costs more digits the larger x is. So the
    integer part goes apart, as usual: its multiple of log 2 is taken off in two pieces, the first of them exact.
    """
    x = tl.where(x < -800.0, -800.0, x)  # 0 in float64 as well, and not minus infinity, which would become NaN below
    doublings = tl.floor(x * 1.4426950408889634 + 0.5)
    rest = (x - doublings * 0.693359375) + doublings * 2.1219444005469058e-4
    return tl.exp(rest) * tl.exp2(doublings)


@triton.jit
@no_type_check
def log_of_one_more(e, DOUBLE: tl.constexpr):
    """log(1 + e) for e from 0 to 1, by 2 (z + z^3 / 3 + z^5 / 5 + ...) with z = e / (2 + e).

    The logarithm of 1 + e would have lost the digits of a small e. z is at most 1 / 3, so each term has a ninth of the
    last: 8 of them are enough for float32, 17 for float64.
    """
    z = e / (2.0 + e)
    square = z * z
    TERMS: tl.constexpr = 17 if DOUBLE else 8
    total = tl.zeros_like(z)
    for term in tl.static_range(TERMS):
        total = total * square + 1.0 / (2 * (TERMS - 1 - term) + 1)
    return 2.0 * z * total


@triton.jit
@no_type_check
def logistic(x, DOUBLE: tl.constexpr):
    """p = sigmoid(x), 1 - p, -log(1 - p) and -log(p), none of them by way of another that has lost its digits."""
    e = exp_of_negative(-tl.abs(x))
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    log = log_of_one_more(e, DOUBLE)
    p = tl.where(x < 0, smaller, larger)
    rest = tl.where(x < 0, larger, smaller)
    # `where` lets NaN pass, `maximum` would not.
    return p, rest, tl.where(x < 0, 0.0, x) + log, tl.where(x > 0, 0.0, -x) + log


@triton.jit
@no_type_check
def power(p, minus_log_p, GAMMA: tl.constexpr):
    """p^GAMMA."""
    if GAMMA == 0.0:
        return tl.full(p.shape, 1.0, p.dtype)
    elif GAMMA == 1.0:
        return p
    elif GAMMA == 1.5:
        return p * tl.sqrt(p)
    elif GAMMA == 2.0:
        return p * p
    else:
        # The rounding of the product is known, and would matter where it is large.
        exponent = -GAMMA * minus_log_p
        lost = tl.fma(-minus_log_p, tl.full(p.shape, GAMMA, p.dtype), -exponent)
        return exp_of_negative(exponent) * (1.0 + lost)
