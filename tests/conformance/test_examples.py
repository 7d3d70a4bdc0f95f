"""The examples of ports in other languages are ports, and right."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from detr_conformance.options import COMMAND, CheckOptions
from detr_conformance.probe import probe

pytestmark = [
    pytest.mark.usefixtures("shapes_unchecked"),
    pytest.mark.skipif(shutil.which("node") is None, reason="examples/harness.mjs needs Node.js 18 or later"),
]
HARNESS = Path(__file__).parents[2] / "examples/harness.mjs"
NODE = shlex.join(["node", str(HARNESS)])
QUICK = "BOX-01 or CLASS-01 or AUX-01"


def test_the_harness_in_javascript_passes_the_probe(capsys):
    assert probe(CheckOptions(port=NODE, adapter=COMMAND, level="smoke")) == 0, capsys.readouterr().out


@pytest.mark.parametrize("chosen", [QUICK, pytest.param("", marks=pytest.mark.thorough)])
def test_it_breaks_no_rule(chosen, check):
    run = check(f"--command={NODE}", "--", "-n", "0", "-k", chosen)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 fail, 0 error" in run.stdout
