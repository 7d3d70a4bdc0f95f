"""Tests and benchmarks on a CUDA device: `python benchmarks/gpu.py`.

Nothing needs to be installed but torch, triton, scipy and what the tests need; peers that are there are timed as well.

Exit status 0: all went well; 1: something failed, the files say what; 2: there is no CUDA device.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import checkout
import peers
import torch
from graphs import captured, main_layer, with_and_without_solver
from measure import Bench, Row, above_floor, forward_and_step, loss_rows, read_logits, rows_of, solver_rows
from settings import FOCAL, NO_DENOISING, SETTINGS, VARIFOCAL
from tables import publish
from timing import in_every_round, interleaved
from workloads import WORKLOADS, Workload

Measure = Callable[[Bench, Workload], list[Row]]


def main() -> int:
    arguments = _arguments()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: torch.cuda.is_available() is false.", file=sys.stderr)  # noqa: T201
        return 2
    checkout.put_on_path()  # nothing has imported the package so far
    failures = [] if arguments.no_tests else _test_failures(arguments.results)
    bench = Bench.on(torch.device("cuda", torch.cuda.current_device()), arguments.rounds)
    bench.failures += failures
    workloads = [WORKLOADS[name] for name in arguments.workloads]
    sections = {title: _rows(bench, measure, workloads) for title, measure in MEASURES.items()}
    sections["Assignment"] = solver_rows(bench)
    return publish(bench, sections, arguments.results / "gpu.json", arguments.results / "gpu.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder for the files")
    parser.add_argument("--no-tests", action="store_true", help="do not run `pytest -m cuda tests` before")
    return parser.parse_args()


def _test_failures(results: Path) -> list[str]:
    """What `pytest -m cuda tests` has to complain of; its whole output goes into a file."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests"]
    done = subprocess.run(command, cwd=checkout.ROOT, capture_output=True, text=True, check=False)
    results.mkdir(parents=True, exist_ok=True)
    (results / "gpu-tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    print(f"pytest -m cuda tests: {lines[-1]}")  # noqa: T201  # the rest takes minutes
    return [] if done.returncode == 0 else [f"pytest -m cuda tests: exit status {done.returncode}, {lines[-1]}"]


def _rows(bench: Bench, measure: Measure, workloads: list[Workload]) -> list[Row]:
    """One section. Between workloads what the allocator has cached goes back."""
    rows: list[Row] = []
    for workload in workloads:
        rows += bench.attempt(f"{measure.__name__}, {workload.name}", partial(measure, bench, workload))
        torch.cuda.empty_cache()
    return rows


def split_rows(bench: Bench, workload: Workload) -> list[Row]:
    """Forward alone, and forward and backward."""
    inputs = bench.inputs(workload)
    rows: list[Row] = []
    for setting in SETTINGS:
        for name, step in peers.steps_of(inputs, setting)[0].items():
            spreads = interleaved(in_every_round(forward_and_step(step)), bench.rounds, bench.clock)
            forward, both = (spread.median for spread in spreads.values())
            where = {"workload": workload.name, "loss": setting.name, "contender": name}
            rows.append({**where, "forward ms": forward, "backward ms": both - forward, "both ms": both})
    return rows


def graph_rows(bench: Bench, workload: Workload) -> list[Row]:
    """The step of `optimized` call by call, and replayed as a CUDA graph."""
    inputs = bench.inputs(workload)
    rows: list[Row] = []
    for setting in SETTINGS:
        step = peers.optimized(inputs, setting)
        replay = captured(partial(peers.optimized, inputs, setting))
        runs = {"called": step, "replayed": replay}
        peers.check_same("replayed and called", replay(), step())
        spreads = interleaved(in_every_round(runs), bench.rounds, bench.clock)
        peers.check_same("replayed and called", replay(), step())
        where = {"workload": workload.name, "loss": setting.name}
        rows += above_floor(bench, rows_of(spreads, where), read_logits(workload, setting))
    return rows


def solver_share_rows(bench: Bench, workload: Workload) -> list[Row]:
    """What the matching costs: the loss with it, and with a matching given."""
    inputs = bench.inputs(workload)
    rows: list[Row] = []
    for setting in (VARIFOCAL, FOCAL):
        prepared = with_and_without_solver(inputs, setting)
        steps = {name: prepare() for name, prepare in prepared.items()}
        (matched, _), (given, _) = (step() for step in steps.values())
        peers.check_losses("matched and given", main_layer(matched), main_layer(given))
        replays = {f"{name}, replayed": captured(prepare) for name, prepare in prepared.items()}
        spreads = interleaved(in_every_round(steps | replays), bench.rounds, bench.clock)
        where = {"workload": workload.name, "loss": f"{setting.name}, ordinary queries"}
        rows += above_floor(bench, rows_of(spreads, where), read_logits(workload, NO_DENOISING))
    return rows


MEASURES = {
    "Loss, forward and backward": loss_rows,
    "Loss, forward and backward apart": split_rows,
    "CUDA graph": graph_rows,
    "With and without the solver": solver_share_rows,
}


if __name__ == "__main__":
    sys.exit(main())
