"""One step of the loss, contender by contender: `pytest benchmarks --benchmark-only`."""

from __future__ import annotations

from functools import lru_cache

import measure
import peers
import pytest
import torch
from settings import SETTINGS
from workloads import WORKLOADS

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.filterwarnings("default")  # what a peer warns of is no failure of ours

ROUNDS = 5
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))
CONTESTS = [
    (workload, setting, each.name)
    for workload in ("tiny", "coco")  # run.py has the others
    for setting in SETTINGS
    for each in peers.CONTENDERS
    if setting in each.settings
]


@lru_cache(maxsize=1)
def bench_on(device):
    return measure.Bench.on(torch.device(device), ROUNDS)


@lru_cache(maxsize=1)  # the contenders of a contest follow each other
def contest(device, workload, setting):
    """The contenders, and their rows by the run in which they took turns."""
    bench = bench_on(device)
    rows = measure.setting_rows(bench, WORKLOADS[workload], setting)
    steps, absent = peers.steps_of(bench.inputs(WORKLOADS[workload]), setting)
    return steps, absent, {row["contender"]: row for row in rows}


@pytest.mark.parametrize(
    ("workload", "setting", "name"),
    CONTESTS,
    ids=[f"{w}-{s.name}-{n}".replace(", ", "-").replace(" ", "-") for w, s, n in CONTESTS],
)
@pytest.mark.parametrize("device", DEVICES)
def test_a_step_of_the_loss(benchmark, device, workload, setting, name):
    steps, absent, rows = contest(device, workload, setting)
    if name in absent:
        pytest.skip(absent[name])
    benchmark.group = f"{workload}, {setting.name}, {device}"
    benchmark.extra_info.update({key: rows[name][key] for key in ("ratio", "memory", "× floor")})
    compared = {each: steps[each] for each in (next(iter(steps)), name)}
    peers.check(compared)
    benchmark.pedantic(_idle_after(steps[name], device), rounds=ROUNDS, warmup_rounds=1)
    peers.check(compared)


def _idle_after(step, device):
    if device == "cpu":
        return step

    def run():
        step()
        torch.cuda.synchronize()

    return run
