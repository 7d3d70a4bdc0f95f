"""Assignment problems of every kind, and what is wrong with an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from detr_conformance.reference import linear_sum_assignment

Family = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

ROUNDING = 16.0
"""Per pair, in units of float64's eps times the largest cost: half of it is the reference's own, in its proof."""

PADDING = -60000.0
"""Cheaper than every cost, and within float16: whoever reads beyond a problem's size takes it."""


def scales(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Factors from 0.001 to 1000."""
    return 10.0 ** draw.integers(-3, 4, shape)


def with_holes(costs: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A third of the costs is not finite."""
    return np.where(draw.uniform(size=costs.shape) < 1 / 3, draw.choice([np.nan, np.inf, -np.inf], costs.shape), costs)


FAMILIES: dict[str, Family] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "all equal": lambda _, shape: np.full(shape, 0.3),
    "zeros and ones": lambda draw, shape: draw.integers(0, 2, shape).astype(np.float64),
    "tied decimals": lambda draw, shape: draw.choice([-0.1, 0.1, 0.2, 0.3], shape),
    "near ties": lambda draw, shape: draw.integers(0, 2, shape) + 1e-13 * draw.normal(size=shape),
    "all matchings tied": lambda draw, shape: np.add.outer(*[draw.normal(size=size) for size in shape]),
    "entries of mixed scale": lambda draw, shape: draw.normal(size=shape) * scales(draw, shape),
    "rows of mixed scale": lambda draw, shape: draw.normal(size=shape) * scales(draw, (shape[0], 1)),
    "large offsets": lambda draw, shape: draw.normal(size=shape) + 1e9 * draw.normal(size=(shape[0], 1)),
    "huge": lambda draw, shape: 1e300 * draw.uniform(-1, 1, size=shape),
    "few distinct rows": lambda draw, shape: draw.normal(size=(3, shape[1]))[draw.integers(0, 3, shape[0])],
    "not finite": lambda draw, shape: with_holes(draw.normal(size=shape), draw),
}


def problems(family: str, count: int, most: tuple[int, int], least: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
    """Matrices of all sizes from `least` to `most`, some with no row or no column, some higher and some wider."""
    draw = np.random.default_rng(sorted(FAMILIES).index(family))
    shapes = draw.integers(least, most, size=(count, 2), endpoint=True).tolist()
    return [FAMILIES[family](draw, tuple(shape)) for shape in shapes]


def padded(costs: Sequence[np.ndarray], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The problems as one tensor, and their sizes."""
    sizes = np.array([cost.shape for cost in costs])
    stack = torch.full((len(costs), *sizes.max(0)), PADDING, dtype=dtype)
    for into, cost in zip(stack, costs, strict=True):
        into[: cost.shape[0], : cost.shape[1]] = torch.from_numpy(cost)
    return stack, torch.from_numpy(sizes)


def flaws(costs: Tensor, sizes: Tensor, answers: Tensor) -> set[str]:
    """What is wrong with the answers: nothing, if each is shown to be a matching of the least cost."""
    of_each = zip(costs.double().cpu().numpy(), sizes.tolist(), answers.cpu().numpy(), strict=True)
    return {flaw for cost, (rows, columns), answer in of_each for flaw in _flaws(cost[:rows, :columns], answer)}


def _flaws(cost: np.ndarray, answer: np.ndarray) -> set[str]:
    """What is wrong with one answer; the potentials of the reference bound the cost of every matching from below."""
    cost = np.where(np.isfinite(cost), cost, 0.0)
    rows = np.flatnonzero(answer >= 0)
    chosen = answer[rows]
    if (rows >= cost.shape[0]).any() or (chosen >= cost.shape[1]).any():
        return {"beyond the size"}
    pairs = min(cost.shape)
    excess = math.fsum([*cost[rows, chosen], -linear_sum_assignment(cost).dual_bound])
    found = {
        "number of pairs": len(rows) != pairs,
        "one to one": len(set(chosen.tolist())) != len(chosen),
        "unmatched rows": (answer < -1).any(),
        "cost": excess > pairs * ROUNDING * np.finfo(np.float64).eps * np.abs(cost).max(initial=0.0),
    }
    return {flaw for flaw, present in found.items() if present}


def least_costs(costs: Tensor) -> Tensor:
    """The cost of the cheapest matching of each problem, by trying all of them."""
    wide = costs if costs.shape[1] <= costs.shape[2] else costs.mT
    _, rows, columns = wide.shape
    every = torch.tensor(list(permutations(range(columns), rows)), device=costs.device)
    return wide[:, torch.arange(rows), every].sum(-1).amin(-1)


def total_costs(costs: Tensor, answers: Tensor) -> Tensor:
    """What the answers cost, problem by problem."""
    of_rows = costs.gather(2, answers.clamp(min=0)[:, :, None]).squeeze(2)
    return (of_rows * (answers >= 0)).sum(1)
