"""Solutions of the reference solver, checked by their own certificates, by scipy and by brute force."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipy_assignment

from detr_conformance.reference.assignment import Assignment, linear_sum_assignment

from ..thorough import thorough_but

Family = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

EPS = float(np.finfo(np.float64).eps)
ROUNDING = 8.0
"""Per pair, in units of eps times the largest cost in magnitude; 1.7 is the most that was seen."""

FEW, MANY = 200, 1000
"""Problems of each family, in a plain run and in a thorough one."""


def scales(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Factors from 0.001 to 10000."""
    return 10.0 ** draw.integers(-3, 5, shape)


FAMILIES: dict[str, Family] = {
    "uniform": lambda draw, shape: draw.uniform(size=shape),
    "small integers with ties": lambda draw, shape: draw.integers(-2, 3, shape).astype(np.float64),
    "all equal": lambda _, shape: np.full(shape, 0.3),
    "zeros and ones": lambda draw, shape: draw.integers(0, 2, shape).astype(np.float64),
    "negative": lambda draw, shape: -draw.exponential(size=shape),
    "tied decimals": lambda draw, shape: draw.choice([-0.1, 0.1, 0.2, 0.3], shape),
    "entries of mixed scale": lambda draw, shape: draw.normal(size=shape) * scales(draw, shape),
    "rows of mixed scale": lambda draw, shape: draw.normal(size=shape) * scales(draw, (shape[0], 1)),
    "all matchings tied": lambda draw, shape: np.add.outer(*[draw.normal(size=size) for size in shape]),
    "few distinct rows": lambda draw, shape: draw.normal(size=(3, shape[1]))[draw.integers(0, 3, shape[0])],
}


def problems(family: str, count: int = FEW) -> Iterator[np.ndarray]:
    """Matrices up to 60 × 40 and 40 × 60, a fifth of them square, some without rows or columns."""
    draw = np.random.default_rng(sorted(FAMILIES).index(family))
    for number in range(count):
        more, less = int(draw.integers(0, 61)), int(draw.integers(0, 41))
        few = less // 4
        shapes = [(more, less), (less, more), (less, less), (more, few), (few, more)]
        yield FAMILIES[family](draw, shapes[number % 5])


def small_problems() -> Iterator[np.ndarray]:
    """All matrices of 0, 1 and 2 up to 2 × 3 and 3 × 2; twelve others of every shape up to 5 × 5."""
    for rows, columns in [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (2, 2), (2, 3), (3, 2)]:
        for values in product([0.0, 1.0, 2.0], repeat=rows * columns):
            yield np.array(values).reshape(rows, columns)
    draw = np.random.default_rng(7)
    for rows, columns in product(range(6), repeat=2):
        for family in ["uniform", "small integers with ties", "entries of mixed scale"]:
            yield from (FAMILIES[family](draw, (rows, columns)) for _ in range(4))


def cheapest(cost: np.ndarray) -> float:
    """The least cost of all matchings, by trying every one."""
    wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
    rows, columns = wide.shape
    return min(math.fsum(wide[range(rows), chosen]) for chosen in permutations(range(columns), rows))


def total(cost: np.ndarray, solved: Assignment) -> float:
    """What the matching costs."""
    return math.fsum(cost[solved.rows, solved.columns])


def rounding(cost: np.ndarray) -> float:
    """What float64 may do to the price of one pair."""
    return ROUNDING * EPS * float(np.abs(cost).max(initial=0.0))


def flaws(cost: np.ndarray, solved: Assignment) -> set[str]:
    """What is wrong with a matching or its certificate: nothing, if it is shown to be optimal."""
    rows, columns = solved.rows, solved.columns
    slack = cost - solved.row_potentials[:, None] - solved.column_potentials[None, :]
    found = {
        "size": not len(rows) == len(columns) == min(cost.shape),
        "order": (np.diff(rows) <= 0).any(),
        "one to one": len(set(columns.tolist())) < len(columns),
        "feasibility": (slack < -rounding(cost)).any(),
        "slackness": (np.abs(slack[rows, columns]) > rounding(cost)).any(),
        "long side": not long_side_proves_the_bound(cost, solved),
        "bound": abs(total(cost, solved) - solved.dual_bound) > len(rows) * rounding(cost),
    }
    return {flaw for flaw, present in found.items() if present}


def long_side_proves_the_bound(cost: np.ndarray, solved: Assignment) -> bool:
    """Whether the longer side's potentials are at most 0, and 0 where unmatched, without any rounding."""
    if cost.shape[0] == cost.shape[1]:
        return True
    tall = cost.shape[0] > cost.shape[1]
    potentials = solved.row_potentials if tall else solved.column_potentials
    unmatched = np.delete(potentials, solved.rows if tall else solved.columns)
    return bool((potentials <= 0.0).all() and (unmatched == 0.0).all())


@pytest.mark.parametrize(
    ("family", "count"), thorough_but([(family, FEW) for family in FAMILIES], product(FAMILIES, (FEW, MANY)))
)
def test_the_potentials_prove_every_matching_optimal_and_scipy_finds_none_cheaper(family, count):
    for cost in problems(family, count):
        solved = linear_sum_assignment(cost)
        assert flaws(cost, solved) == set(), cost.shape
        theirs = math.fsum(cost[scipy_assignment(cost)])
        assert abs(total(cost, solved) - theirs) <= len(solved.rows) * rounding(cost), cost.shape


def test_no_matching_of_a_small_problem_is_cheaper():
    for cost in small_problems():
        solved = linear_sum_assignment(cost)
        assert flaws(cost, solved) == set(), cost
        assert abs(total(cost, solved) - cheapest(cost)) <= len(solved.rows) * rounding(cost), cost


def test_the_problems_reach_every_kind_of_shape():
    shapes = {cost.shape for cost in problems("uniform")}
    assert max(rows for rows, _ in shapes) == max(columns for _, columns in shapes) == 60
    assert any(rows > columns > 0 for rows, columns in shapes)
    assert any(columns > rows > 0 for rows, columns in shapes)
    assert any(rows == columns > 0 for rows, columns in shapes)
    assert any(rows == 0 < columns for rows, columns in shapes)
    assert any(columns == 0 < rows for rows, columns in shapes)


COST = np.array([[1.0, 2.0, 9.0], [1.0, 4.0, 9.0]])
"""Solved by columns 1 and 0, with potentials 2, 2 for the rows and -1, 0, 0 for the columns."""

CORRUPTIONS: dict[str, tuple[dict[str, list[float]], set[str]]] = {
    "a dear matching": ({"columns": [0, 1]}, {"slackness", "bound"}),
    "a missing pair": ({"rows": [0], "columns": [1]}, {"size", "bound", "long side"}),
    "a column used twice": ({"columns": [0, 0]}, {"one to one", "bound"}),
    "rows out of order": ({"rows": [1, 0], "columns": [0, 1]}, {"order"}),
    "a high price": ({"row_potentials": [2.0, 2.1]}, {"feasibility", "slackness", "bound"}),
    "a low price": ({"row_potentials": [2.0, 1.9]}, {"slackness", "bound"}),
    "a price on a free column": ({"column_potentials": [-1.0, 0.0, -0.1]}, {"long side", "bound"}),
    "a premium": (
        {"column_potentials": [-1.0, 0.1, 0.0]},
        {"long side", "feasibility", "slackness", "bound"},
    ),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupt_certificate_is_found_out(corruption):
    fields, expected = CORRUPTIONS[corruption]
    solved = linear_sum_assignment(COST)
    corrupt = replace(solved, **{name: np.array(values) for name, values in fields.items()})
    assert flaws(COST, solved) == set()
    assert flaws(COST, corrupt) == expected


def test_half_the_bound_on_rounding_is_forgiven_and_ten_times_the_bound_is_not():
    solved = linear_sum_assignment(COST)
    lowered = [replace(solved, row_potentials=solved.row_potentials - k * rounding(COST)) for k in (0.5, 10)]
    assert flaws(COST, lowered[0]) == set()
    assert flaws(COST, lowered[1]) == {"slackness", "bound"}
