"""Derivatives in three ways: by the tape, by central differences, and in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detr_conformance.reference import Tracked
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import gradients, variable

STEP = 1e-5
DIFFERENCE = 1e-8
"""How far a central difference over this step may be off: its rounding and its third order, both below 1e-9 here."""


def gradient(formula: Callable[..., Any], *arrays: Any) -> Tracked:
    """Derivative of the summed formula with respect to the first array, by the tape."""
    leaf = variable(arrays[0])
    [found] = gradients(np.sum(formula(leaf, *arrays[1:])), [leaf])
    return found


def central_difference(formula: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """The same, entry by entry."""
    first, *others = arrays
    slopes = np.zeros(first.shape)
    for entry in np.ndindex(first.shape):
        change = np.zeros(first.shape)
        change[entry] = STEP
        after, before = (plain(np.sum(formula(first + by, *others))) for by in (change, -change))
        slopes[entry] = (after - before) / (2 * STEP)
    return slopes


# Closed forms. `x` is a logit, `p` its sigmoid, `y` 1 for the target's class, `q` the target score.


def probability(x: np.ndarray) -> np.ndarray:
    """p."""
    return np.exp(-np.logaddexp(0.0, -x))


def entropy(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """-q log p - (1 - q) log(1 - p)."""
    return q * np.logaddexp(0.0, -x) + (1 - q) * np.logaddexp(0.0, x)


def entropy_slope(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """p - q."""
    return probability(x) - q


def focal_slope(x: np.ndarray, y: np.ndarray, gamma: float, alpha: float) -> np.ndarray:
    """(1 - 2 y) a_t (1 - p_t)^gamma (1 - p_t + gamma p_t BCE), by dp_t/dx = (2 y - 1) p_t (1 - p_t).

    Reference: Lin et al., Focal Loss, arXiv 1708.02002, equation 5 and appendix B.
    """
    balance = np.where(y == 1, alpha, 1 - alpha) if alpha > 0 else 1.0
    truth = probability(np.where(y == 1, x, -x))
    return balance * (1 - 2 * y) * (1 - truth) ** gamma * (1 - truth + gamma * truth * entropy(x, y))


def varifocal_slope(x: np.ndarray, q: np.ndarray, y: np.ndarray, gamma: float, alpha: float) -> np.ndarray:
    """w (p - q) + w' BCE(x, q), with w = alpha p^gamma (1 - y) + q and w' = alpha gamma p^gamma (1 - p) (1 - y).

    Reference: Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2.
    """
    p = probability(x)
    background = alpha * p**gamma * (1 - y)
    return (background + q) * (p - q) + gamma * background * (1 - p) * entropy(x, q)


def l1_slope(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The sign of the difference, 0 at 0."""
    return np.sign(pred - target)


def giou_slope(pred: np.ndarray, target: np.ndarray, eps: float = 1e-7) -> np.ndarray:
    """Derivative of inter / union - 1 + union / hull with respect to the predicted box, by the quotient rule.

        GIoU' = inter' / union - inter union' / union^2 + union' / hull - union hull' / hull^2

    An edge moves the intersection or the hull only if it is the one that bounds it; half where both do.

    Reference: Rezatofighi et al., Generalized Intersection over Union, arXiv 1902.09630, algorithm 2.
    """
    low, high, others_low, others_high = (
        box[:, :2] + side * box[:, 2:] / 2 for box in (pred, target) for side in (-1, 1)
    )
    size, shared = high - low, np.minimum(high, others_high) - np.maximum(low, others_low)
    around, meet, across = (
        np.maximum(high, others_high) - np.minimum(low, others_low),
        bounds(shared, 0),
        shared.clip(0),
    )
    inter, hull = across.prod(1), around.prod(1) + eps
    union = size.prod(1) + (others_high - others_low).prod(1) - inter + eps

    def slope(by_size: float, by_shared: np.ndarray, by_around: np.ndarray) -> np.ndarray:
        by_inter, by_hull = by_shared * across[:, ::-1], by_around * around[:, ::-1]
        by_union = by_size * size[:, ::-1] - by_inter
        i, u, h = (area[:, None] for area in (inter, union, hull))
        return by_inter / u - i * by_union / u**2 + by_union / h - u * by_hull / h**2

    by_low = slope(-1.0, -meet * bounds(low, others_low), -bounds(others_low, low))
    by_high = slope(1.0, meet * bounds(others_high, high), bounds(high, others_high))
    return np.concatenate([by_low + by_high, (by_high - by_low) / 2], axis=1)


def bounds(larger: np.ndarray, smaller: np.ndarray | float) -> np.ndarray:
    """1 where the first is larger, 0 where it is smaller, 1/2 where they are equal."""
    return np.heaviside(larger - smaller, 0.5)
