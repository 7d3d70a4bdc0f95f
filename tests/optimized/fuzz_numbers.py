"""Changes of numbers that leave a call good: other types of numbers, and extreme ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from .fuzz_forms import predictions_of

LARGEST_HALF = 65504.0

# For each what it is, and whether the arithmetic copes with it.
NUMBERS = {
    "0": (0.0, True), "1": (1.0, True), "tiny": (1e-30, True), "denormal": (1e-44, True), "negative": (-0.3, True),
    "saturating": (90.0, True), "saturating below": (-90.0, True), "large": (1e3, True),
    "largest half": (LARGEST_HALF, True), "huge": (1e20, False), "huger": (-3e38, False), "hugest": (1.7e308, False),
    "nan": (torch.nan, True), "inf": (torch.inf, True), "-inf": (-torch.inf, True),
}  # fmt: skip


def special_numbers(draw, call):
    names = predictions_of(call) + [name for name in ("costs", "box1", "box2") if name in call.arguments]
    names = [name for name in names if call.arguments[name].numel()]
    if not names:
        return False
    name, which = draw.choice(names), draw.choice(list(NUMBERS))
    number, ordinary = NUMBERS[which]
    tensor = call.arguments[name].detach().clone(memory_format=torch.contiguous_format)
    if abs(number) < torch.inf:  # then it shall stay finite in this dtype
        largest = torch.finfo(tensor.dtype).max
        number = max(-largest, min(number, largest))
    for _ in range(draw.choice([1, 1, 3, 100])):
        tensor.view(-1)[draw.randrange(tensor.numel())] = number
    call.arguments[name] = tensor
    call.ordinary &= ordinary
    call.finite &= abs(number) < torch.inf
    call.notes.append(f"{name} gets {which}")
    return True


def degenerate_targets(draw, call):
    names = [name for name in ("bboxes", "gt_bboxes") if name in call.arguments and len(call.arguments[name])]
    for name in names:
        boxes = call.arguments[name].detach().clone()
        sides = [0.0, 1e-30, 0.0] if name == "bboxes" else [0.0, 1e-30, -0.1, 0.0]
        boxes[draw.randrange(len(boxes)), 2 + draw.randrange(2)] = draw.choice(sides)
        call.arguments[name] = boxes
    return bool(names)


def all_alike(draw, call):
    """Ties everywhere."""
    for name in predictions_of(call):
        call.arguments[name] = torch.full_like(call.arguments[name], draw.choice([0.0, 0.25, 0.5]))
    return bool(predictions_of(call))


def _fraction(number):
    return Fraction(float(number))


def _half(number):
    return np.float16(number) if abs(float(number)) <= LARGEST_HALF else np.float64(number)


def other_numbers(draw, call):
    kinds = (np.float32, np.float64, float, _fraction, _half)
    for name in ("gamma", "alpha"):
        if name in call.options:
            call.options[name] = draw.choice(kinds)(call.options[name])
    for gains in (call.options.get(name) for name in ("loss_gain", "cost_gain")):
        for term in gains if isinstance(gains, dict) else ():
            gains[term] = draw.choice((*kinds, int))(gains[term])
    return bool(call.options)


def huge_gains(draw, call):
    gains = call.options.get("loss_gain") or call.options.get("cost_gain")
    if not isinstance(gains, dict):
        return False
    gains[draw.choice(list(gains))] = draw.choice([1e18, -1e18, 10**17, 1e-300, np.float32(1e10)])
    call.ordinary = False
    return True


def extreme_exponents(draw, call):
    if "gamma" not in call.options:
        return False
    call.options[draw.choice(["gamma", "alpha"])] = draw.choice([1e-30, 1e3, 1e18, 10**18, 5e-324, Fraction(1, 3)])
    call.ordinary = False
    return True


def options_that_do_not_matter(draw, call):
    change = {"num_sample_points": draw.choice([-1, None])} if call.surface == "matcher" else {}
    if "nc" in call.options and not call.options.get("use_uni_match"):
        change = {"uni_match_ind": draw.choice([7, 10**30])}
    if "use_fl" in call.options:
        change |= {"validate": draw.flip(), "backend": draw.choice([None, "torch"])}
    call.options |= change
    return bool(change)


NEW_NUMBERS = (
    special_numbers, degenerate_targets, all_alike, other_numbers, huge_gains, extreme_exponents,
    options_that_do_not_matter,
)  # fmt: skip
