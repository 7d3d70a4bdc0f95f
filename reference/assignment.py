"""The linear assignment problem, solved together with the proof that the solution is optimal.

A matching alone does not show that it is the cheapest. The *potentials* that come with it do: prices, one
for each row and each column, that undercut every entry of the cost matrix and add up to the cost of the
matching. Nobody has to trust the solver, adding up is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

FREE = -1
"""In place of a row: the column has none yet. In place of a column: the path starts here."""

LARGEST_COST = 1e300
"""Beyond this magnitude, sums of costs could leave the range of float64."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """A cheapest matching and its certificate of optimality.

    The certificate is a solution (u, v) of the dual program,

        maximise sum_i u_i + sum_j v_j   subject to   u_i + v_j <= c_ij for all i, j,
                                                      the longer side's potentials <= 0.

    Every matching of min(rows, columns) pairs costs at least that sum: its pairs cover the shorter side
    whole, and the potentials that it leaves out are not positive. Where equality holds on every matched
    pair and the unmatched potentials are 0 (complementary slackness), the matching costs exactly that sum,
    so none is cheaper.

    Attributes:
        rows: matched rows, ascending, min(rows, columns) of them.
        columns: the column matched to each of them.
        row_potentials: u, one for each row of the cost matrix.
        column_potentials: v, one for each column.
    """

    rows: Int64[np.ndarray, " pairs"]
    columns: Int64[np.ndarray, " pairs"]
    row_potentials: Float64[np.ndarray, " all_rows"]
    column_potentials: Float64[np.ndarray, " all_columns"]

    @property
    def dual_bound(self) -> float:
        """sum(u) + sum(v), which no matching undercuts."""
        return math.fsum([*self.row_potentials, *self.column_potentials])


def linear_sum_assignment(cost: Float[np.ndarray, "rows columns"]) -> Assignment:
    """Match as many rows with columns as there can be, one to one, at the least total cost.

        minimise sum_ij c_ij x_ij   subject to   x_ij in {0, 1},
        every line of the shorter side holds exactly one x = 1, every line of the longer side at most one.

    The method is that of successive shortest augmenting paths: rows enter one by one, each along the
    cheapest chain of reassignments that ends in a free column. The shortest path is Dijkstra's, over the
    reduced costs c_ij - u_i - v_j, which the potentials keep non-negative. Among equal costs the lowest
    index is preferred, so the result is deterministic; it need not be the optimal matching that another
    solver picks.

    Symbols: c cost matrix, x matching, u row potentials, v column potentials.

    Args:
        cost: (rows, columns), finite, of magnitude <= 1e300; either side may be 0 or the longer one.

    Returns:
        The matching, and the potentials that prove it optimal up to the rounding of float64.

    Raises:
        ValueError: if `cost` is not a matrix, or holds an entry that is not finite or too large.

    Reference: D. F. Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on
    Aerospace and Electronic Systems 52(4), 2016, doi 10.1109/TAES.2016.140952. R. Jonker and A. Volgenant,
    A shortest augmenting path algorithm for dense and sparse linear assignment problems, Computing 38,
    1987, doi 10.1007/BF02278710.
    """
    checked = _checked(cost)
    rows, columns = checked.shape
    if rows <= columns:
        return _solve_wide(checked)
    return _transposed(_solve_wide(np.ascontiguousarray(checked.T)))


def _checked(cost: Shaped[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """The cost matrix in float64, if it is one that can be solved."""
    if np.ndim(cost) != 2:
        raise ValueError(f"cost must be a matrix (rows, columns), got shape {np.shape(cost)}")
    checked = np.asarray(cost, dtype=np.float64)
    good = np.abs(checked) <= LARGEST_COST  # false for NaN too
    if not good.all():
        row, column = (int(index) for index in np.argwhere(~good)[0])
        value = checked[row, column]
        raise ValueError(f"cost must be finite and within ±{LARGEST_COST}, got {value} at [{row}, {column}]")
    return checked


def _transposed(solved: Assignment) -> Assignment:
    """The same solution with the roles of rows and columns exchanged."""
    order = np.argsort(solved.columns)
    return Assignment(
        rows=solved.columns[order],
        columns=solved.rows[order],
        row_potentials=solved.column_potentials,
        column_potentials=solved.row_potentials,
    )


def _solve_wide(cost: Float64[np.ndarray, "rows columns"]) -> Assignment:
    """Solve a problem with rows <= columns by augmenting the matching by one row at a time."""
    rows, columns = cost.shape
    row_of = np.full(columns, FREE)
    column_potentials = np.zeros(columns)
    for row in range(rows):
        path = _shortest_path(cost, column_potentials, row_of, row)
        column_potentials = column_potentials - _lowering(path)
        _augment(row_of, path, row)
    return Assignment(
        rows=np.arange(rows),
        columns=np.argsort(row_of)[columns - rows :],  # free columns come first, then row by row
        row_potentials=_row_potentials(cost, column_potentials),
        column_potentials=column_potentials,
    )


def _row_potentials(
    cost: Float64[np.ndarray, "rows columns"], column_potentials: Float64[np.ndarray, " columns"]
) -> Float64[np.ndarray, " rows"]:
    """The largest row potentials that are feasible, u_i = min_j (c_ij - v_j)."""
    return np.array([(row - column_potentials).min() for row in cost], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Path:
    """The tree of shortest paths from one row, grown until it met a free column.

    Attributes:
        sink: the free column, where the path ends.
        distance: length of the shortest path found to each column; what exceeds the sink's is not final.
        came_from: the column before it on that path, FREE where the path comes straight from row `start`.
    """

    sink: int
    distance: Float64[np.ndarray, " columns"]
    came_from: Int64[np.ndarray, " columns"]


def _shortest_path(
    cost: Float64[np.ndarray, "rows columns"],
    column_potentials: Float64[np.ndarray, " columns"],
    row_of: Int64[np.ndarray, " columns"],
    start: int,
) -> _Path:
    """Dijkstra from row `start` to the nearest free column; each step goes to a column and on to its row."""
    columns = len(row_of)
    distance, came_from = np.full(columns, np.inf), np.full(columns, FREE)
    settled = np.zeros(columns, dtype=bool)
    row, column, length = start, FREE, 0.0
    while row != FREE:
        reduced = cost[row] - column_potentials
        # The minimum is u_row; subtracting it leaves nothing negative, exactly, so what is settled stays so.
        through = length + (reduced - reduced.min())
        closer = through < distance
        distance[closer], came_from[closer] = through[closer], column
        column = int(np.where(settled, np.inf, distance).argmin())
        settled[column] = True
        row, length = int(row_of[column]), float(distance[column])
    return _Path(column, distance, came_from)


def _lowering(path: _Path) -> Float64[np.ndarray, " columns"]:
    """How much nearer than the sink each column is; lowered so, potentials make the path's edges tight."""
    lowering: Float64[np.ndarray, " columns"] = np.maximum(path.distance[path.sink] - path.distance, 0.0)
    return lowering


def _augment(row_of: Int64[np.ndarray, " columns"], path: _Path, start: int) -> None:
    """Walk the path backwards: each column takes the row of the one before it, the first row `start`."""
    column = path.sink
    while (previous := int(path.came_from[column])) != FREE:
        row_of[column] = row_of[previous]
        column = previous
    row_of[column] = start
