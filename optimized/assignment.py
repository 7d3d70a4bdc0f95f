"""Linear assignment, many problems at a time: on the CPU by numba or SciPy, one Triton program for each on CUDA."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from detr_conformance.optimized.backends.choice import backend_for
from detr_conformance.optimized.backends.protocol import Backend
from detr_conformance.optimized.backends.torch.backend import TorchBackend
from detr_conformance.optimized.validation import check_floats, check_integer_dtype, check_tensor

BACKENDS = ("scipy", "native", "triton")


def linear_sum_assignment(
    costs: Float[Tensor, "problems rows columns"],
    sizes: Integer[Tensor, "problems 2"] | None = None,
    *,
    backend: str | None = None,
) -> Int64[Tensor, "problems rows"]:
    """Match the rows of each problem with its columns, as many as there can be, one to one, at the least total cost.

        minimise sum_ij c_ij x_ij   subject to   x_ij in {0, 1},
        every line of the shorter side holds exactly one x = 1, every line of the longer side at most one.

    Symbols: c costs of one problem, x its matching.

    The arithmetic is in float64, whatever the dtype. An entry that is not finite counts as 0.0 (quirk: that is the rule
    of the DETR loss, so such an entry is often cheap). The result is deterministic; which of several cheapest matchings
    it is depends on the backend. On CUDA, Triton's solver does not wait for the device, and can be captured in a graph.

    Args:
        costs: (problems, rows, columns), padded to one size, in float16, bfloat16, float32 or float64, of magnitude
            <= 1e300; any of the three may be 0, and either side of a problem the longer one.
        sizes: (problems, 2), how many rows, 0 to rows, and columns, 0 to columns, each problem really has, on the
            device of `costs`; None: all. Triton on CUDA takes the nearest size that is possible for a wrong one, since
            looking at the values would mean waiting for them.
        backend: "scipy", on the host wherever the costs are, "native", on the CPU and compiled by numba, or "triton";
            None: "triton" on CUDA where it can run, "native" on the CPU where numba is installed, else "scipy".

    Returns:
        (problems, rows) on the device of `costs`: the column of each row, or -1 for a row that is beyond the problem's
        size or unmatched, because the problem has more rows than columns.

    Raises:
        TypeError: `costs` is no tensor of these dtypes, or `sizes` none of integers.
        ValueError: a shape, a size, a device or the name of the backend does not fit.
        RuntimeError: Triton or numba is asked for and is not installed; or the costs are on the CPU and Triton does not
            interpret (TRITON_INTERPRET=1), or on CUDA and numba was asked for.

    Reference: D. F. Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on Aerospace and
    Electronic Systems 52(4), 2016, doi 10.1109/TAES.2016.140952. R. Jonker and A. Volgenant, A shortest augmenting path
    algorithm for dense and sparse linear assignment problems, Computing 38, 1987, doi 10.1007/BF02278710.
    """
    _check_costs(costs)
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {BACKENDS} or None")
    problems, rows, columns = costs.shape
    if sizes is None:
        row_counts = torch.full((problems,), rows, device=costs.device)
        column_counts = torch.full((problems,), columns, device=costs.device)
    else:
        _check_sizes(sizes, costs, look=costs.device.type == "cpu" or backend == "scipy")
        row_counts, column_counts = sizes.to(torch.int64).unbind(1)
    chosen: Backend = TorchBackend() if backend == "scipy" else backend_for(costs.device, backend, "costs")
    answers = chosen.solve_stack(
        costs.reshape(problems * rows, columns),
        torch.arange(problems, device=costs.device) * rows,
        row_counts,
        column_counts,
        most_rows=rows,
    )
    return answers.view(problems, rows)


def _check_costs(costs: object) -> None:
    """Costs have a dtype that is solved, and three axes."""
    shape = tuple(check_floats("costs", costs).shape)
    if len(shape) != 3:
        raise ValueError(f"costs has shape {shape}, expected (problems, rows, columns)")


def _check_sizes(sizes: object, costs: Tensor, *, look: bool) -> None:
    """Sizes are integers, two for each problem, on the device of the costs; and, if we look, within their shape."""
    sizes = check_tensor("sizes", sizes)
    check_integer_dtype("sizes", sizes)
    if sizes.shape != (len(costs), 2):
        raise ValueError(f"sizes has shape {tuple(sizes.shape)}, expected (problems, 2) = ({len(costs)}, 2)")
    if sizes.device != costs.device:
        raise ValueError(f"sizes is on {sizes.device}, expected the device of costs, {costs.device}")
    if not look:
        return
    for problem, (rows, columns) in enumerate(sizes.tolist()):
        if not (0 <= rows <= costs.shape[1] and 0 <= columns <= costs.shape[2]):
            largest = tuple(costs.shape[1:])
            raise ValueError(f"sizes[{problem}] is ({rows}, {columns}), expected from (0, 0) to {largest}")
