"""Assignment by costs that are all in memory: the way of every backend that does not fuse the two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets
from detr_conformance.optimized.upload import on_device

Solve = Callable[..., Tensor]
"""See `torch.assignment.solve_stack`."""


def assigned(
    costs: Callable[..., Tensor],
    solve: Solve,
    pred_bboxes: Float[Tensor, "layers images queries 4"],
    pred_scores: Float[Tensor, "layers images queries classes"],
    targets: Targets,
    options: CostOptions,
) -> Int64[Tensor, "layers targets"]:
    """The query of each target by these two steps, see `solved`."""
    return solved(costs(pred_bboxes, pred_scores, targets, options), targets, solve, options.non_finite)


def solved(
    costs: Float[Tensor, "layers targets queries"], targets: Targets, solve: Solve, non_finite: float = 0.0
) -> Int64[Tensor, "layers targets"]:
    """The query of each target at the least total cost of its image and layer, all problems in one call of the solver.

    -1 where an image has more targets than queries and this one went without. A cost that is not finite counts as
    `non_finite`.
    """
    layers, _, queries = costs.shape
    starts, rows, columns = on_device(problems, targets.counts, layers, queries, device=costs.device).unbind()
    of_problems = costs.view(-1, queries), starts, rows, columns
    answers = solve(*of_problems, most_rows=max(targets.counts), non_finite=non_finite)
    return answers.view(layers, -1)


def problems(counts: Sequence[int], layers: int, queries: int) -> Int64[Tensor, "3 problems"]:
    """The assignment problems of all layers and images: their first row of costs, their rows, and their columns."""
    rows = torch.tensor(counts, dtype=torch.int64, device="cpu").repeat(layers)
    return torch.stack([rows.cumsum(0) - rows, rows, torch.full_like(rows, queries)])
