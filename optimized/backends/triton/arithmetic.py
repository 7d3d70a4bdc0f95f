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
def _artanh(z, DOUBLE: tl.constexpr):
    """Inverse hyperbolic tangent of z from 0 to 1 / 3, z + z^3 / 3 + z^5 / 5 + ...

    Each term has at most a ninth of the last: 17 are enough for float64. For float32 four coefficients, fitted to the
    least relative error, 4.5e-9, do what eight terms would.
    """
    square = z * z
    if DOUBLE:
        total = tl.zeros_like(z)
        for term in tl.static_range(17):
            total = total * square + 1.0 / (2 * (16 - term) + 1)
    else:
        total = (0.14006083 * square + 0.14000886) * square + 0.20010765
        total = (total * square + 0.33333208) * square + 1.0
    return z * total


@triton.jit
@no_type_check
def _inverse(x, DOUBLE: tl.constexpr):
    """1 / x for x of moderate size. In float32 the inverse root and a product take two instructions, a division ten."""
    if DOUBLE:
        return 1.0 / x
    else:
        root = tl.rsqrt(x)
        return root * root


@triton.jit
@no_type_check
def logistic(x, DOUBLE: tl.constexpr):
    """p = sigmoid(x), 1 - p, -log(1 - p) and -log(p), none of them by way of another that has lost its digits.

    The logarithm of 1 + e would have lost the digits of a small e, twice artanh(e / (2 + e)) has not.
    """
    e = exp_of_negative(-tl.abs(x))
    one_more, two_more = 1.0 + e, 2.0 + e
    inverse = _inverse(one_more * two_more, DOUBLE)  # one for both that are needed
    larger = inverse * two_more
    smaller = e * larger
    log = 2.0 * _artanh(e * (inverse * one_more), DOUBLE)
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
