"""What becomes of a step where other processes want the same cores, as a data loader's workers do."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import peers
from measure import Bench, Row
from settings import VARIFOCAL
from timing import in_every_round, interleaved
from workloads import Workload

PROCESSES = 6


def busy_rows(bench: Bench, workload: Workload) -> list[Row]:
    """Every contender on an idle machine, and beside busy processes."""
    return bench.attempt(f"{workload.name}, busy cores", partial(_measured, bench, workload))


def _measured(bench: Bench, workload: Workload) -> list[Row]:
    steps, absent = peers.steps_of(bench.inputs(workload), VARIFOCAL)
    bench.absent |= absent
    calm = interleaved(in_every_round(steps), bench.rounds, bench.clock)
    with _busy_processes(PROCESSES):
        busy = interleaved(in_every_round(steps), bench.rounds, bench.clock)
    return [
        {
            "workload": workload.name,
            "contender": name,
            "calm ms": calm[name].median,
            "busy processes": PROCESSES,
            "median ms": busy[name].median,
            "times": busy[name].median / calm[name].median,
        }
        for name in steps
    ]


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    context = mp.get_context("spawn")
    processes = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _spin() -> None:
    number = 0
    while True:
        number += 1
