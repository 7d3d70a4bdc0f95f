"""The kernels compile for CUDA, with or without a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
from .compiled_for_cuda import KERNELS

ROOT = Path(__file__).parents[2]


@pytest.mark.thorough
@pytest.mark.parametrize("capability", ["80", "90"])  # Ampere, Hopper
def test_every_kernel_compiles(capability, tmp_path):
    # In a process of its own: here Triton interprets, so that kernels are no kernels.
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.optimized.compiled_for_cuda", capability]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith(f"sm_{capability} ") for line in lines)
    assert {line.split(": ")[1].split()[0] for line in lines} == set(KERNELS)
