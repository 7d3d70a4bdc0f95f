"""Assignment solvers other than SciPy's usual one. Each takes costs of shape (queries, targets) as an array and returns
queries, ascending, and targets of a cheapest matching."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

FEW = 5
"""So many rows at most are matched by trying every matching."""


def wide(solve):
    """A solver for matrices that have no more rows than columns, made one for all matrices."""

    def solve_any(cost):
        cost = np.asarray(cost)
        if cost.shape[0] <= cost.shape[1]:
            return by_query(np.arange(cost.shape[0]), solve(cost))
        return by_query(solve(cost.T), np.arange(cost.shape[1]))

    return solve_any


def by_query(queries, targets):
    queries, targets = np.asarray(queries, dtype=np.int64), np.asarray(targets, dtype=np.int64)
    order = np.argsort(queries)
    return queries[order], targets[order]


@wide
def augmenting_paths(cost):
    """Shortest augmenting paths with potentials, in the precision of the costs (Jonker and Volgenant, 1987)."""
    rows, columns = cost.shape
    of_row, of_column = np.zeros(rows + 1, cost.dtype), np.zeros(columns + 1, cost.dtype)
    owner = np.full(columns + 1, rows)  # the last column stands for the row that is being matched
    for row in range(rows):
        owner[columns] = row
        for column, previous in shortest_path(cost, of_row, of_column, owner):
            owner[column] = owner[previous]
    matched = np.flatnonzero(owner[:columns] < rows)
    return matched[np.argsort(owner[matched])]


def shortest_path(cost, of_row, of_column, owner):
    """Columns from a free one back to the last, each with the one before it; the potentials follow."""
    rows, columns = cost.shape
    distance, previous = np.full(columns, np.inf, cost.dtype), np.full(columns, columns)
    done, here = np.zeros(columns + 1, dtype=bool), columns
    while owner[here] < rows:
        done[here] = True
        slack = cost[owner[here]] - of_row[owner[here]] - of_column[:columns]
        nearer = ~done[:columns] & (slack < distance)
        distance[nearer], previous[nearer] = slack[nearer], here
        nearest = int(np.where(done[:columns], np.inf, distance).argmin())
        step = distance[nearest]
        of_row[owner[done]] += step
        of_column[done] -= step
        distance[~done[:columns]] -= step
        here = nearest
    path = []
    while here != columns:
        path.append((here, previous[here]))
        here = previous[here]
    return path


@wide
def cancelled_cycles(cost):
    """Start with the first columns, and exchange along cycles that make it cheaper until there is none."""
    cost = cost.astype(np.float64)
    rows, columns = cost.shape
    column_of = np.arange(rows)
    smallest = 1e-14 * np.abs(cost).max(initial=0.0)
    while rows:
        free = np.setdiff1d(np.arange(columns), column_of)
        cycle = cheaper_cycle(exchanges(cost, column_of, free), smallest)
        if cycle is None:
            break
        follow(cycle, cost, column_of, free)
    return column_of


def exchanges(cost, column_of, free):
    """What it costs that row i takes the column of row j; the last row stands for the free columns."""
    rows = len(cost)
    weights = np.full((rows + 1, rows + 1), np.inf)
    weights[:rows, :rows] = cost[:, column_of] - cost[np.arange(rows), column_of][:, None]
    if len(free):
        weights[:rows, rows] = cost[:, free].min(axis=1) - cost[np.arange(rows), column_of]
        weights[rows, :rows] = 0.0
    np.fill_diagonal(weights, np.inf)
    return weights


def cheaper_cycle(weights, smallest):
    """A cycle of negative weight by Bellman and Ford, or None."""
    count = len(weights)
    distance, previous = np.zeros(count), np.full(count, -1)
    for _ in range(count):
        through = distance[:, None] + weights
        better = through.min(axis=0) < distance - smallest
        if not better.any():
            return None
        previous[better] = through.argmin(axis=0)[better]
        distance[better] = through.min(axis=0)[better]
    return walk_back(previous, int(np.flatnonzero(better)[0]))


def walk_back(previous, start):
    for _ in range(len(previous)):
        start = previous[start]
    cycle = [start]
    while previous[cycle[-1]] != start:
        cycle.append(previous[cycle[-1]])
    return cycle[::-1]


def follow(cycle, cost, column_of, free):
    """Every row of the cycle takes the column of the next one."""
    before = column_of.copy()
    for row, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if row < len(cost):
            taken = free[cost[row, free].argmin()] if following == len(cost) else before[following]
            column_of[row] = taken


@wide
def auction(cost):
    """Rows bid for columns with ever smaller raises (Bertsekas, 1988); rows that bid for nothing make it square."""
    rows, columns = cost.shape
    value = np.zeros((columns, columns))
    value[:rows] = -cost.astype(np.float64)
    if columns == 1:
        return np.zeros(rows, dtype=np.int64)
    largest = float(np.abs(value).max(initial=0.0)) or 1.0
    prices, raises = np.zeros(columns), largest
    while raises >= 1e-12 * largest:  # much less would be lost in the rounding of prices
        raises /= 8.0
        column_of = bidding(value, prices, raises)
    return column_of[:rows]


def bidding(value, prices, raises):
    """A matching in which no row would gain more than `raises` by another column; prices go up in place."""
    count = len(value)
    column_of, owner = np.full(count, -1), np.full(count, -1)
    bidders = list(range(count))
    while bidders:
        row = bidders.pop()
        gain = value[row] - prices
        best = int(gain.argmax())
        offered, gain[best] = gain[best], -np.inf
        prices[best] += offered - gain.max() + raises
        if owner[best] >= 0:
            column_of[owner[best]] = -1
            bidders.append(owner[best])
        owner[best], column_of[row] = row, best
    return column_of


@wide
def enumerated(cost):
    """Every matching of a few rows is tried; more go to SciPy's solver for sparse graphs."""
    rows, columns = cost.shape
    if rows == 0 or (rows <= FEW and columns <= 2 * FEW):
        every = np.array(list(permutations(range(columns), rows)), dtype=np.int64)
        return every[cost[np.arange(rows), every].sum(axis=1).argmin()]
    shifted = cost.astype(np.float64) - cost.min() + 1.0  # the solver takes 0 for no edge
    return min_weight_full_bipartite_matching(csr_array(shifted))[1]


def maximised(cost):
    """The transposed costs, negated, and the largest sum."""
    targets, queries = linear_sum_assignment(-np.asarray(cost).T, maximize=True)
    return by_query(queries, targets)


class RandomOrder:
    """Queries and targets in random order, so that chance decides between matchings of equal costs."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def __call__(self, cost):
        queries, targets = (self.rng.permutation(size) for size in cost.shape)
        rows, columns = linear_sum_assignment(np.asarray(cost)[queries][:, targets])
        return by_query(queries[rows], targets[columns])
