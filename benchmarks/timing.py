"""Clocks: contenders take turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import os
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Run = Callable[[], object]
WARM_UP = 3
# More than a CPU's or a GPU's last cache holds; the copy of such a tensor is bound by memory.
LARGE = 256 * 2**20


@dataclass(frozen=True)
class Spread:
    """Milliseconds of one contender's rounds."""

    median: float
    least: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, times: list[float]) -> Spread:
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        return cls(median, min(times), (low, high))


class Clock:
    """Wall time of one call, with the device idle before and after.

    Args:
        device: where the work is done.
        before: called before each timed call, untimed.
    """

    def __init__(self, device: torch.device, before: Run | None = None) -> None:
        self.device = device
        self.before = before
        # What a training step reads was not read a moment ago; triton.testing.do_bench clears the cache likewise.
        self.evicting = torch.empty(LARGE, dtype=torch.uint8, device=device) if device.type == "cuda" else None

    def __call__(self, run: Run) -> float:
        """Milliseconds."""
        if self.before is not None:
            self.before()
        if self.evicting is None:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e3
        self.evicting.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end)


def interleaved(runs_of: Callable[[int], Mapping[str, Run]], rounds: int, clock: Clock) -> dict[str, Spread]:
    """Each contender once in every round, in an order drawn anew for each, always the same draws.

    In one and the same order, one contender would always follow the one whose memory takes longest to be mapped anew.

    Args:
        runs_of: what is run in a round, by contender, given the number of the round; see `in_every_round`.
        rounds: how many there are.
        clock: times one call.
    """
    draw = random.Random(0)  # noqa: S311  # no secret
    for run in runs_of(0).values():
        for _ in range(WARM_UP):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs_of(0)}
    for number in range(rounds):
        order = list(runs_of(number).items())
        draw.shuffle(order)
        gc.collect()
        gc.disable()  # a collection would be charged to whoever happens to have its turn
        try:
            for name, run in order:
                times[name].append(clock(run))
        finally:
            gc.enable()
    return {name: Spread.of(each) for name, each in times.items()}


def in_every_round(runs: Mapping[str, Run]) -> Callable[[int], Mapping[str, Run]]:
    """The same runs, whatever the round."""
    return lambda _: runs


def copy_bandwidth(clock: Clock) -> float:
    """Bytes read and written in a millisecond by a copy in memory; the best of ten, for a floor is a lower bound."""
    source = torch.ones(LARGE // 4, device=clock.device)
    target = torch.empty_like(source)
    return 2 * LARGE / min(clock(lambda: target.copy_(source)) for _ in range(10))


def peak_memory(run: Run, device: torch.device) -> int:
    """Bytes that one call allocates beyond what was there, at its highest point; the results count."""
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return _peak_on_cpu(run)


def _peak_on_cpu(run: Run) -> int:
    """The highest running sum over every allocation and release of torch's CPU allocator, as its profiler logs them.

    And the highest of what Python and NumPy allocate, which need not be at the same time. What SciPy and numba hold
    inside of a call is not in it.
    """
    # Or it tells stderr of every start and stop. Not setdefault: ultralytics sets it to less.
    os.environ["KINETO_LOG_LEVEL"] = "99"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        tracemalloc.start()
        results = run()  # kept, so that its release is not logged
        of_numpy = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    del results
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest + of_numpy
