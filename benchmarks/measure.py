"""Rows of the tables: contenders checked against each other, timed in turns, and checked again."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import peers
import solvers
import torch
from settings import SETTINGS, Setting, Step
from timing import Clock, Run, Spread, copy_bandwidth, interleaved, peak_memory
from workloads import Inputs, Workload, build

Row = dict[str, object]


@dataclass
class Bench:
    """One run of the benchmarks on one device.

    Attributes:
        clock: times one call.
        rounds: how often each contender has its turn.
        bandwidth: bytes that a copy reads and writes in a millisecond.
        batches: how many batches take turns, a new one in each round: a processor learns by heart which way the
            branches of one batch go.
        absent: contenders that are not installed, and why.
        failures: what went wrong, and where.
    """

    clock: Clock
    rounds: int
    bandwidth: float
    batches: int = 1
    absent: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, device: torch.device, rounds: int, batches: int = 1) -> Bench:
        clock = Clock(device, before=peers.as_a_new_batch)
        return cls(clock, rounds, copy_bandwidth(clock), batches)

    @property
    def device(self) -> torch.device:
        return self.clock.device

    def inputs(self, workload: Workload, number: int = 0) -> Inputs:
        """The batch of a round."""
        return _inputs(workload, self.device, number % self.batches)

    def floor(self, logits: int) -> float:
        """Milliseconds in which memory can read that many logits and write as many gradients."""
        return 2 * 4 * logits / self.bandwidth

    def attempt(self, title: str, measure: Callable[[], list[Row]]) -> list[Row]:
        """The rows; where anything goes wrong none, and the run ends with a failure."""
        try:
            return measure()
        except Exception as error:  # noqa: BLE001  # one kernel that fails to compile must not hide the other numbers
            self.failures.append(f"{title}\n{_told(error)}")
            return []


def _told(error: Exception) -> str:
    """An exception and where it came from, by the names of files: where they lie is the machine's affair."""
    frames = traceback.extract_tb(error.__traceback__)
    calls = [f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}\n" for frame in frames]
    return "".join([*calls, *traceback.format_exception_only(error)])


def loss_rows(bench: Bench, workload: Workload) -> list[Row]:
    """Every setting of the loss on one workload."""
    rows: list[Row] = []
    for setting in SETTINGS:
        title = f"{workload.name}, {setting.name}"
        rows += bench.attempt(title, partial(setting_rows, bench, workload, setting))
    return rows


def setting_rows(bench: Bench, workload: Workload, setting: Setting) -> list[Row]:
    """Every contender of a setting, on another batch in each round; the first and the last are compared."""
    steps_of = partial(_steps, bench, workload, setting)
    peers.check(steps_of(0))
    spreads = interleaved(steps_of, bench.rounds, bench.clock)
    steps = steps_of(bench.rounds - 1)
    peers.check(steps)
    logits = read_logits(workload, setting)
    rows = rows_of(spreads, {"workload": workload.name, "loss": setting.name})
    for row, step in zip(rows, steps.values(), strict=True):
        row["memory"] = peak_memory(peers.from_nothing(step), bench.device) / (4 * logits)
    return above_floor(bench, rows, logits)


@lru_cache(maxsize=1)  # those of a few batches would fill the memory
def _inputs(workload: Workload, device: torch.device, seed: int) -> Inputs:
    return build(workload, device, seed)


@lru_cache(maxsize=1)  # asked for again in the next round where there is one batch
def _steps_of(inputs: Inputs, setting: Setting) -> tuple[dict[str, Step], dict[str, str]]:
    return peers.steps_of(inputs, setting)


def _steps(bench: Bench, workload: Workload, setting: Setting, number: int) -> dict[str, Step]:
    """The contenders on the batch of a round."""
    steps, absent = _steps_of(bench.inputs(workload, number), setting)
    bench.absent |= absent
    return steps


def above_floor(bench: Bench, rows: list[Row], logits: int) -> list[Row]:
    """The rows, each with its ratio to the time that memory takes."""
    return [{**row, "× floor": row["median ms"] / bench.floor(logits)} for row in rows]


def read_logits(workload: Workload, setting: Setting) -> int:
    """How many logits the setting's loss depends on."""
    ordinary = workload.layers * workload.images * workload.queries * workload.classes
    return workload.logits if setting.denoising else ordinary


def rows_of(spreads: Mapping[str, Spread], where: Row) -> list[Row]:
    """A row for each contender, with the ratio of its median to the first one's."""
    first = next(iter(spreads.values())).median
    return [
        {
            **where,
            "contender": name,
            "median ms": spread.median,
            "least ms": spread.least,
            "quartiles ms": spread.quartiles,
            "ratio": spread.median / first,
        }
        for name, spread in spreads.items()
    ]


def solver_rows(bench: Bench) -> list[Row]:
    """The assignment alone, for few to many targets."""
    rows: list[Row] = []
    for targets in solvers.TARGETS:
        rows += bench.attempt(f"assignment, {targets} targets", partial(size_rows, bench, targets))
    return rows


def size_rows(bench: Bench, targets: int) -> list[Row]:
    of_round = partial(_problems, bench, targets)
    solvers.check(*of_round(0))
    spreads = interleaved(lambda number: of_round(number)[1], bench.rounds, bench.clock)
    solvers.check(*of_round(bench.rounds - 1))
    return rows_of(spreads, {"problems": solvers.PROBLEMS, "size": f"{solvers.QUERIES} × {targets}"})


def _problems(bench: Bench, targets: int, number: int) -> tuple[torch.Tensor, dict[str, solvers.Solve]]:
    """The costs of a round, and who solves them."""
    costs = solvers.problems(targets, bench.device, number % bench.batches)
    contenders, absent = solvers.solvers_of(costs)
    bench.absent |= {f"{name} (solver)": reason for name, reason in absent.items()}
    return costs, contenders


def forward_and_step(step: Step) -> dict[str, Run]:
    """The loss alone, and with its gradients; the backward pass is what lies between."""
    return {"forward": step.forward, "forward and backward": step}
