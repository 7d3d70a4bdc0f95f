"""Many linear assignment problems on the CPU: SciPy's solver, on as many threads as pay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detr_conformance.optimized.threads import share

COSTS_PER_THREAD = 250_000
"""With less to do, about a millisecond, another thread costs more than it saves."""

Problem = tuple[int, int, int]
"""First row, rows, columns."""


def solve_stack(
    costs: Float[Tensor, "total_rows width"],
    starts: Int64[Tensor, " problems"],
    rows: Int64[Tensor, " problems"],
    columns: Int64[Tensor, " problems"],
    *,
    most_rows: int,  # noqa: ARG001  # the kernels need it
    non_finite: float = 0.0,
) -> Int64[Tensor, " total_rows"]:
    """Solve the problems of which a stack of cost rows consists; see `optimized.linear_sum_assignment`.

    Args:
        costs: (total_rows, width), the rows of all problems, on any device.
        starts: (problems,), the first row of each problem; no row belongs to two of them.
        rows: (problems,), how many it has.
        columns: (problems,), how many it has of the first columns.
        most_rows: what none of `rows` exceeds.
        non_finite: what a cost that is not finite counts as.

    Returns:
        (total_rows,), on the device of the costs: the column of each row in its problem, or -1.
    """
    problems: list[Problem] = list(zip(starts.tolist(), rows.tolist(), columns.tolist(), strict=True))
    # The largest are taken first: then the threads end at about the same time.
    problems.sort(key=_size, reverse=True)
    stack = _finite(costs.cpu(), non_finite)
    answers = np.full(len(stack), -1, dtype=np.int64)

    # SciPy releases the GIL, and torch, which would split its operators among threads of its own, is not needed here.
    def solve(problem: Problem) -> None:
        start, rows, columns = problem
        matched, chosen = linear_sum_assignment(stack[start : start + rows, :columns])
        answers[start : start + rows][matched] = chosen

    def new_worker() -> Callable[[Problem], None]:
        return solve

    share(problems, new_worker, threads=sum(map(_size, problems)) // COSTS_PER_THREAD)
    return torch.from_numpy(answers).to(costs.device)


def _size(problem: Problem) -> int:
    """Number of costs."""
    return problem[1] * problem[2]


def _finite(
    costs: Float[Tensor, "total_rows width"], non_finite: float
) -> Float32[np.ndarray, "total_rows width"] | Float64[np.ndarray, "total_rows width"]:
    """The costs for SciPy, which turns each problem's into float64."""
    # NumPy looks at them in one thread: torch's would wait for each other longer than that takes.
    stack = costs.detach().resolve_neg().to(torch.promote_types(costs.dtype, torch.float32)).numpy()
    finite = np.isfinite(stack)
    return stack if finite.all() else np.where(finite, stack, stack.dtype.type(non_finite))
