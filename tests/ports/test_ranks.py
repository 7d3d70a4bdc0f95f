"""Ranks that take turns in one process return what two processes return that gloo connects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs transformers, which an environment of tox.ini has")
pytest.importorskip("accelerate", reason="needs accelerate, which that environment has too")
import json

from detr_conformance.options import CheckOptions
from detr_conformance.properties.case_json import from_json, to_json
from detr_conformance.properties.transforms import shared_out
from detr_conformance.resolve import resolve

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # as in a run

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@pytest.mark.parametrize("name", ["transformers-detr", "transformers-deformable", "transformers-lw-detr"])
def test_ranks_in_one_process_are_those_of_two(name, tmp_path):
    shown = FINDINGS / f"{name}-rank-01.json"
    case = from_json((shown if shown.exists() else FINDINGS / "transformers-deformable-rank-01.json").read_text())
    if name == "transformers-lw-detr":
        case = case.change(class_loss="ia_bce")
    ranks = shared_out(case, 2)
    for rank, each in enumerate(ranks):
        (tmp_path / f"{rank}.json").write_text(to_json(each))
    program = [sys.executable, str(Path(__file__).with_name("rank.py")), str(tmp_path)]
    place = {"GLOO_SOCKET_IFNAME": LOOPBACK, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    environments = [os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    running = [
        subprocess.Popen([*program, str(rank), name], env=environment) for rank, environment in enumerate(environments)
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0]
    port, _ = resolve(CheckOptions(port=name))
    for rank, result in enumerate(port.losses_of_ranks(ranks)):
        real = json.loads((tmp_path / f"losses-{rank}.json").read_text())
        assert real == pytest.approx({key: float(loss) for key, loss in result.losses.items()}, rel=1e-6)
