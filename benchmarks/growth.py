"""How time grows with each size: `python benchmarks/growth.py` draws docs/benchmarks/growth.svg."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import torch
from measure import Bench
from peers import check, steps_of
from settings import VARIFOCAL
from tables import environment
from timing import in_every_round, interleaved
from workloads import Workload

mpl.use("svg")
from matplotlib import pyplot as plt  # after the choice of what draws

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"
BASE = Workload("base", layers=7, queries=300, classes=80, counts=(8,) * 4)
# Colours that differ in lightness too; each line also bears its name.
COLOURS = {"optimized": "#0072b2", "ultralytics": "#d55e00", "transformers": "#6a3d9a"}
Curve = dict[str, list[float]]  # contender -> median milliseconds at each size


def growing() -> dict[str, dict[int, Workload]]:
    """One size at a time, the others as in the base."""
    return {
        "images": {size: replace(BASE, counts=(8,) * size) for size in (1, 4, 16, 32)},
        "queries": {size: replace(BASE, queries=size) for size in (100, 300, 900, 1800)},
        "classes": {size: replace(BASE, classes=size) for size in (10, 80, 365, 1000)},
        "targets of an image": {size: replace(BASE, counts=(size,) * BASE.images) for size in (1, 8, 32, 128)},
        "layers": {size: replace(BASE, layers=size) for size in (2, 4, 7, 13)},
    }


def curve(bench: Bench, workloads: dict[int, Workload]) -> Curve:
    """The contenders' medians over one size."""
    medians: Curve = {}
    for workload in workloads.values():
        steps, absent = steps_of(bench.inputs(workload), VARIFOCAL)
        bench.absent |= absent
        check(steps)
        for name, spread in interleaved(in_every_round(steps), bench.rounds, bench.clock).items():
            medians.setdefault(name, []).append(spread.median)
    return medians


def draw(curves: dict[str, tuple[list[int], Curve]], title: str) -> plt.Figure:
    """Small multiples on one scale of time."""
    plt.rcParams |= {"svg.hashsalt": "growth", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    figure, axes = plt.subplots(1, len(curves), figsize=(13, 3.4), sharey=True, facecolor="white", layout="constrained")
    for ax, (size, (values, medians)) in zip(axes, curves.items(), strict=True):
        ax.set(xscale="log", yscale="log", xlabel=size)
        ax.set_xticks(values, [f"{value:,}" for value in values])
        ax.minorticks_off()
        ax.grid(color="#dddddd", linewidth=0.6)
        for name, times in medians.items():
            ax.plot(values, times, marker="o", markersize=3, color=COLOURS[name])
    _label(axes[-1], *curves[list(curves)[-1]])
    axes[0].set_ylabel("milliseconds, forward and backward")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _label(ax: plt.Axes, values: list[int], medians: Curve) -> None:
    """Names at the ends of the last panel's lines, in the lines' colours."""
    for name, times in medians.items():
        ax.annotate(f" {name}", (values[-1], times[-1]), color=COLOURS[name], va="center", annotation_clip=False)
    ax.set_xlim(right=values[-1] * 1.1)


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    bench = Bench.on(torch.device(arguments.device), arguments.rounds)
    curves = {size: (list(workloads), curve(bench, workloads)) for size, workloads in growing().items()}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    where = f"on {arguments.device.upper()}" + (f", {arguments.threads} threads" if arguments.device == "cpu" else "")
    targets = f"{BASE.images} images of {BASE.counts[0]} targets"
    base = f"{BASE.layers} layers, {targets}, {BASE.queries} queries, {BASE.classes} classes"
    figure = draw(curves, f"Varifocal loss with denoising {where}; what a panel does not vary: {base}")
    figure.savefig(arguments.folder / "growth.svg", metadata={"Date": None})
    numbers = {"environment": environment(bench), "absent": bench.absent, "curves": curves}
    (arguments.folder / "growth.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where growth.svg and growth.json go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
