"""The assignment alone: many small problems at once, as one training step has them, and who solves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from settings import installed

PROBLEMS = 112  # seven layers of sixteen images
QUERIES = 300
TARGETS = (7, 20, 50, 100)
Solve = Callable[[], torch.Tensor]  # the column of each row, or -1: (problems, rows)


def problems(targets: int, device: torch.device | str, seed: int = 0) -> torch.Tensor:
    """Costs (problems, queries, targets) with the structure of a matcher's: distances of boxes plus a class term."""
    draw = torch.Generator().manual_seed(seed)
    queries = torch.rand(PROBLEMS, QUERIES, 4, generator=draw)
    distances = torch.cdist(queries, torch.rand(PROBLEMS, targets, 4, generator=draw), p=1)
    return (5 * distances + torch.randn(PROBLEMS, QUERIES, targets, generator=draw)).to(device)


def solvers_of(costs: torch.Tensor) -> tuple[dict[str, Solve], dict[str, str]]:
    """Those that are installed, the one to compare with first; and for the absent ones the reason."""
    return installed({name: partial(prepare, costs) for name, prepare in SOLVERS.items()})


def _optimized(costs: torch.Tensor, backend: str | None = None) -> Solve:
    from detr_conformance.optimized import linear_sum_assignment

    sizes = torch.tensor(costs.shape[1:], device=costs.device).expand(len(costs), 2).contiguous()
    return lambda: linear_sum_assignment(costs, sizes, backend=backend)


def _scipy(costs: torch.Tensor) -> Solve:
    """One problem after the other on the host, as every peer's matcher does; with both transfers on CUDA."""
    from scipy.optimize import linear_sum_assignment

    def solve() -> torch.Tensor:
        on_host = costs.cpu().numpy()
        columns = np.full(on_host.shape[:2], -1)
        for problem, cost in enumerate(on_host):
            rows, chosen = linear_sum_assignment(cost)
            columns[problem, rows] = chosen
        return torch.from_numpy(columns).to(costs.device)

    return solve


def _torch_linear_assignment(costs: torch.Tensor) -> Solve:
    """On CUDA its Triton kernel, on the CPU SciPy."""
    from torch_linear_assignment import batch_linear_assignment

    return lambda: batch_linear_assignment(costs)


SOLVERS: dict[str, Callable[[torch.Tensor], Solve]] = {
    "optimized": _optimized,
    "optimized, by scipy": partial(_optimized, backend="scipy"),
    "scipy, one by one": _scipy,
    "torch-linear-assignment": _torch_linear_assignment,
}


def check(costs: torch.Tensor, solvers: dict[str, Solve]) -> None:
    """Every result is a matching, and none costs more than SciPy's, which the sums of float32 costs let differ little.

    Raises:
        AssertionError: one is not, or does.
    """
    on_host = costs.double().cpu()
    best = _total(on_host, _scipy(on_host)())
    for name, solve in solvers.items():
        columns = solve().cpu()
        for problem, chosen in enumerate(columns):
            taken = chosen[chosen >= 0]
            assert len(taken.unique()) == len(taken) == min(costs.shape[1:]), f"{name}: no matching in {problem}"
        excess = float((_total(on_host, columns) - best).abs().max())
        assert excess <= 1e-4, f"{name}: {excess} above the least cost"


def _total(costs: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The cost of each problem's matching."""
    chosen = costs.gather(2, columns.clamp(min=0).long()[..., None])[..., 0]
    return (chosen * (columns >= 0)).sum(1)
