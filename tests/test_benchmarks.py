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


@pytest.mark.thorough
def test_a_run_measures_every_contender_that_is_installed(tmp_path):
    done = run("run.py", "--workloads", "tiny", "--rounds", "2", "--json", str(tmp_path / "cpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "cpu.json").read_text())
    for title, rows in report["sections"].items():
        contenders = {row["contender"] for row in rows}
        assert "optimized" in contenders, title
        assert all(row["median ms"] > 0 for row in rows)
    assert not {"optimized", "scipy, one by one"} & set(report["absent"])


def test_the_picture_shows_the_results_that_are_kept():
    report = json.loads((ROOT / "benchmarks/results/cpu.json").read_text(encoding="utf-8"))
    rows = report["sections"]["Loss, forward and backward"]
    shown = {
        row["contender"]: row["median ms"] for row in rows if (row["workload"], row["loss"]) == ("coco", "varifocal")
    }
    picture = (ROOT / "docs/benchmarks/bars.svg").read_text(encoding="utf-8")
    for name in ("optimized", "ultralytics", "optimized, for transformers", "transformers"):
        assert f"<!--  {shown[name]:.3g} ms" in picture, f"{name}: python benchmarks/bars.py draws it anew"


@pytest.mark.thorough
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


WITHOUT_A_DEVICE = """
import sys
sys.path.insert(0, "benchmarks")
import checkout, torch
checkout.put_on_path()
import gpu
from measure import Bench
from workloads import WORKLOADS

gpu.captured = lambda prepare: prepare()  # a graph needs a device; all around it does not
bench = Bench.on(torch.device("cpu"), rounds=2)
for measure in (gpu.split_rows, gpu.graph_rows, gpu.solver_share_rows):
    print(measure.__name__, len(measure(bench, WORKLOADS["tiny"])))
print("settings", len(gpu.SETTINGS))
"""


@pytest.mark.thorough
def test_what_is_measured_on_a_device_alone_runs_but_for_the_graph():
    command = [sys.executable, "-c", WITHOUT_A_DEVICE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert set(counts) == {"split_rows", "graph_rows", "solver_share_rows", "settings"}
    assert int(counts["graph_rows"]) == 2 * int(counts["settings"]), "called and replayed, in each setting"
    assert counts["solver_share_rows"] == "8"


def test_what_a_peer_only_imports_may_be_absent():
    program = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "from stand_ins import standing_in_for\n"
        "with standing_in_for('no_such_package', 'json'):\n"
        "    import json, no_such_package.part as part\n"
        "    from no_such_package import anything\n"
        "print(json.loads('1'), part.whatever is not None)\n"
        "import no_such_package.other\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "1 True\n"
    assert "ModuleNotFoundError" in done.stderr
