"""All benchmarks on the CPU: `python benchmarks/run.py`. Exit status 1: contenders disagree, or something failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from busy import busy_rows
from measure import Bench, loss_rows, solver_rows
from tables import publish
from workloads import ON_CPU, WORKLOADS


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    bench = Bench.on(torch.device("cpu"), arguments.rounds, arguments.batches)
    sections = {
        "Loss, forward and backward": [
            row for name in arguments.workloads for row in loss_rows(bench, WORKLOADS[name])
        ],
        "Assignment": solver_rows(bench),
        "Busy cores": [row for name in arguments.busy for row in busy_rows(bench, WORKLOADS[name])],
    }
    return publish(bench, sections, arguments.json, arguments.markdown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=64, help="a new one in each round (default: %(default)s)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=ON_CPU, help="default: %(default)s")
    parser.add_argument("--busy", nargs="*", choices=WORKLOADS, default=("coco",), help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
