"""Formulas in float32, in the arrangements in which ports write them, and how much of their bounds they use."""

from __future__ import annotations

import numpy as np

from detr_conformance.reference import Tracked, track
from detr_conformance.reference.rounding_rules import FLOAT32

UNITS = 4.0
"""Roundings granted for each that a bound counts; a port is granted 16."""
SMALLEST = 2.0**-126
"""Below this, float32 loses digits."""


def single(*shape, scale=1.0, seed=0) -> np.ndarray:
    """Random numbers that float32 holds."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def shares(got, expected) -> np.ndarray:
    """Error of float32 over what the bound of the same formula explains; 0 where it explains any error."""
    error = np.abs(np.asarray(got, dtype=np.float64) - expected.values)
    allowed = UNITS * FLOAT32.eps * expected.magnitude + SMALLEST
    return np.where(np.isinf(allowed), 0.0, error / np.where(np.isinf(allowed), 1.0, allowed))


def assert_within(got, expected) -> None:
    """Every error is within its bound, and the worst uses a hundredth of it at least: the bound is not idle.

    Seen: from 0.026 (GIoU) to 0.73 (focal gradients for gamma 3).
    """
    __tracebackhide__ = True
    used = shares(got, expected)
    assert used.max() <= 1, f"{used.max():.3f} of the bound at {np.unravel_index(used.argmax(), used.shape)}"
    assert used.max() >= 0.01, f"the bound is {1 / used.max():.0f} times what happens"


def box_pairs(seed=0, count=4000) -> tuple[np.ndarray, np.ndarray]:
    """Boxes from tiny to large, the second mostly near the first."""
    rng = np.random.default_rng(seed)
    first = np.concatenate([rng.uniform(0, 1, (count, 2)), 10.0 ** rng.uniform(-3, 0, (count, 2))], axis=1)
    second = first + rng.normal(0, 0.3, (count, 4)) * np.tile(first[:, 2:], 2)
    second[:, 2:] = np.abs(second[:, 2:]) + 1e-3
    return first.astype(np.float32), second.astype(np.float32)


def area_from_size(box, _):
    """Width times height of the centre form."""
    return box[:, 2] * box[:, 3]


def area_from_corners(_, corners):
    """The product of differences of corners."""
    return (corners[2] - corners[0]) * (corners[3] - corners[1])


def overlaps(a, b, area, fold) -> dict[str, np.ndarray]:
    """The measures in the arrays' own precision; `fold` chooses the arrangement of the union and of GIoU."""
    eps = a.dtype.type(1e-7)
    ca, cb = ([x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in (a.T, b.T))
    wide, high = (np.maximum(np.minimum(ca[i + 2], cb[i + 2]) - np.maximum(ca[i], cb[i]), 0) for i in (0, 1))
    across, down = (np.maximum(ca[i + 2], cb[i + 2]) - np.minimum(ca[i], cb[i]) for i in (0, 1))
    inter, area_a, area_b = wide * high, area(a, ca), area(b, cb)
    union = area_a + area_b - inter + eps if fold else (area_a - inter) + (area_b + eps)
    hull = across * down + eps
    iou = inter / union
    return {"IoU": iou, "GIoU": iou - (hull - union) / hull if fold else iou + (union / hull - 1)}


def logits(count=4000, seed=0) -> np.ndarray:
    """From the middle to where sigmoids saturate."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=count) * rng.choice([0.1, 3.0, 30.0], count)).astype(np.float32)


def scores() -> tuple[np.ndarray, Tracked]:
    """IoUs in float32, and as the reference has them: quotients, which are off by a rounding at least."""
    part, whole = np.abs(single(2, 4000))
    return part / (part + whole), track(part) / (track(part) + track(whole))


def entropy_by_maximum(x, q):
    """Cross-entropy as most textbooks stabilise it."""
    return np.maximum(x, 0) - x * q + np.log1p(np.exp(-np.abs(x)))


def entropy_by_log_sigmoid(x, q):
    """Cross-entropy as PyTorch evaluates it."""
    return (1 - q) * x - (np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))


def entropy_by_softplus(x, q):
    """Cross-entropy as MLX evaluates it: for a label it is a small difference of large numbers."""
    return np.logaddexp(np.float32(0), x) - x * q


ENTROPIES = [entropy_by_maximum, entropy_by_log_sigmoid, entropy_by_softplus]


def probability(x):
    """The sigmoid without a case distinction; overflow of exp gives 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))
