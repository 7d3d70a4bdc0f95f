from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def check(tmp_path_factory):
    """Runs `detr-conformance check` at level smoke in a folder with the sample ports."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(HERE / "sample_ports.py", folder)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from detr_conformance.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "check", arguments[0], "--level", "smoke", *arguments[1:]]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def beside_the_samples(monkeypatch):
    """The folder of the sample ports is the current one."""
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(scope="session")
def small_case():
    """Two equal layers, one image, two queries, one target, focal loss."""
    from detr_conformance.properties.case import LossCase, LossConfig

    return LossCase(
        config=LossConfig(nc=2),
        pred_bboxes=np.array(2 * [[[[0.5, 0.5, 0.25, 0.25], [0.25, 0.75, 0.125, 0.5]]]]),
        pred_scores=np.array(2 * [[[[1.5, -2.0], [0.25, -1.0]]]]),
        gt_cls=np.array([1]),
        gt_bboxes=np.array([[0.5, 0.5, 0.25, 0.5]]),
        gt_groups=(1,),
    )
