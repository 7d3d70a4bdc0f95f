"""The commands of the benchmarks run, and say what they could not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"benchmarks/{script}", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_measures_every_contender_that_is_installed(tmp_path):
    done = run("run.py", "--workloads", "tiny", "--rounds", "2", "--json", str(tmp_path / "cpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "cpu.json").read_text())
    for title, rows in report["sections"].items():
        contenders = {row["contender"] for row in rows}
        assert "optimized" in contenders, title
        assert all(row["median ms"] > 0 for row in rows)
    assert not {"optimized", "scipy, one by one"} & set(report["absent"])


def test_a_loss_that_disagrees_has_no_row_and_fails_the_run(tmp_path):
    sabotaged = tmp_path / "sabotaged.py"
    sabotaged.write_text(
        "import runpy, sys\n"
        "sys.path.insert(0, 'benchmarks')\n"
        "import solvers\n"
        "right = solvers.SOLVERS['optimized']\n"
        "solvers.SOLVERS['optimized'] = lambda costs: lambda: right(costs)().roll(1, dims=1)\n"
        "runpy.run_path('benchmarks/run.py', run_name='__main__')\n"
    )
    command = [sys.executable, str(sabotaged), "--workloads", "tiny", "--rounds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "optimized: " in done.stdout
    assert " above the least cost" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_command_says_that_there_is_no_device():
    done = run("gpu.py")
    assert done.returncode == 2
    assert done.stderr == "There is no CUDA device here: torch.cuda.is_available() is false.\n"
