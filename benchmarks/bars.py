"""The time of a step at a glance: `python benchmarks/bars.py` draws docs/benchmarks/bars.svg from results/cpu.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt  # after the choice of what draws

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
PICTURE = ROOT / "docs" / "benchmarks" / "bars.svg"
WORKLOAD, LOSS = "coco", "varifocal"
PAIRS = {"optimized": "ultralytics", "optimized, for transformers": "transformers"}
"""What each of ours stands in for."""
OURS, THEIRS = "#0072b2", "#b0b0b0"


def medians(report: dict) -> dict[str, float]:
    """Milliseconds of each contender."""
    rows = report["sections"]["Loss, forward and backward"]
    return {row["contender"]: row["median ms"] for row in rows if row["workload"] == WORKLOAD and row["loss"] == LOSS}


def draw(report: dict) -> plt.Figure:
    """A bar for each, ours below what it replaces."""
    times = medians(report)
    names = [name for ours, theirs in PAIRS.items() for name in (theirs, ours)]
    plt.rcParams |= {"svg.hashsalt": "bars", "font.size": 10}
    figure, ax = plt.subplots(figsize=(7.4, 2.3), facecolor="white", layout="constrained")
    places = [0.0, 1.0, 2.4, 3.4]
    colours = [OURS if name in PAIRS else THEIRS for name in names]
    ax.barh(places, [times[name] for name in names], color=colours, height=0.9)
    for place, name in zip(places, names, strict=True):
        faster = f", {times[PAIRS[name]] / times[name]:.1f} times as fast" if name in PAIRS else ""
        ax.text(times[name], place, f" {times[name]:.3g} ms{faster}", va="center")
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.spines[["top", "right", "bottom", "left"]].set_visible(False)
    ax.tick_params(left=False, bottom=False, labelbottom=False)
    ax.set_xlim(right=max(times[name] for name in names) * 1.15)
    facts = report["environment"]
    title = (
        f"The loss of a step like COCO's, forward and backward, {facts['threads']} threads of an {facts['processor']}"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def main() -> int:
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw(json.loads(RESULTS.read_text(encoding="utf-8"))).savefig(PICTURE, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
