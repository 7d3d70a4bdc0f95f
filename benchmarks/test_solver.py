"""The assignment of one training step, solver by solver: `pytest benchmarks --benchmark-only`."""

from __future__ import annotations

from functools import lru_cache

import measure
import pytest
import solvers
import torch

pytest.importorskip("pytest_benchmark")

ROUNDS = 10
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))


@lru_cache(maxsize=1)  # the solvers of one size follow each other
def contest(device, targets):
    """The costs, the solvers, and their rows by the run in which they took turns."""
    bench = measure.Bench.on(torch.device(device), ROUNDS)
    costs = solvers.problems(targets, device)
    rows = measure.size_rows(bench, targets)
    return costs, *solvers.solvers_of(costs), {row["contender"]: row for row in rows}


@pytest.mark.parametrize("name", solvers.SOLVERS)
@pytest.mark.parametrize("targets", solvers.TARGETS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_assignment_of_a_step(benchmark, device, targets, name):
    costs, contenders, absent, rows = contest(device, targets)
    if name in absent:
        pytest.skip(absent[name])
    benchmark.group = f"{solvers.PROBLEMS} of {solvers.QUERIES} × {targets}, {device}"
    benchmark.extra_info["ratio"] = rows[name]["ratio"]
    solvers.check(costs, contenders)
    benchmark.pedantic(lambda: contenders[name]().cpu(), rounds=ROUNDS, warmup_rounds=1)
    solvers.check(costs, contenders)
