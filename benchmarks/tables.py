"""What a run of the benchmarks leaves behind: a table to read, numbers to compute with, an exit status."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from measure import Bench, Row
from peers import CONTENDERS

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "torch",
    "triton",
    "numba",
    "numpy",
    "scipy",
    "ultralytics",
    "transformers",
    "rfdetr",
    "torch-linear-assignment",
)
LEGEND = """\
`ratio`: median time by the first contender's of the same block. `memory`: the most that a step holds at any time
beyond its inputs, gradients included, in units of the logits' size. `× floor`: median time by the time in which memory
can read all logits once and write all gradients once. `least` and `quartiles` are of the same rounds as the median."""


def environment(bench: Bench) -> dict[str, object]:
    """What the numbers were measured on, and of what."""
    found = {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rounds": bench.rounds,
        "batches": bench.batches,
        "copy, GB/s read and written": round(bench.bandwidth / 1e6, 1),
        "python": platform.python_version(),
    }
    if bench.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(bench.device)
        found["cuda"] = torch.version.cuda
    return found | {name: version for name in PACKAGES if (version := _version(name))}


def _commit() -> str:
    """The commit, and whether the files are those that it holds."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changes else commit


def _processor() -> str:
    """The model where the kernel tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def publish(bench: Bench, sections: dict[str, list[Row]], json_file: Path | None, markdown_file: Path | None) -> int:
    """Print the tables, write the files that were asked for, and give the exit status."""
    report = {
        "environment": environment(bench),
        "sections": sections,
        "absent": bench.absent,
        "failures": bench.failures,
    }
    text = markdown(report)
    print(text)  # noqa: T201  # the command's answer
    for file, content in ((json_file, json.dumps(report, indent=1) + "\n"), (markdown_file, text)):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    return 1 if bench.failures else 0


def markdown(report: dict) -> str:
    """The whole report."""
    facts = ", ".join(f"{name} {value}" for name, value in report["environment"].items())
    parts = [f"Measured with: {facts}.", LEGEND]
    for title, rows in report["sections"].items():
        parts += [f"## {title}", table(rows) if rows else "Nothing was measured."]
    different = [f"- {each.name}: {each.differs}." for each in CONTENDERS if each.differs]
    parts += ["What a contender computes differently:", "\n".join(different)]
    if report["absent"]:
        parts += ["Not installed: " + ", ".join(sorted(report["absent"])) + "."]
    parts += [f"**Failed**: {failure}" for failure in report["failures"]]
    return "\n\n".join(parts) + "\n"


def table(rows: list[Row]) -> str:
    """Rows with the same keys."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if isinstance(value, tuple):
        return " – ".join(_cell(each) for each in value)
    return str(value)
