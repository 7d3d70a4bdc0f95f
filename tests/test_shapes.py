"""Shapes and types are as annotated: tests that call most functions run once more, with every call checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from detr_conformance.reference.boxes import l1_distance

pytest.importorskip("beartype", reason="checks types at run time")

ROOT = Path(__file__).parents[1]
CHECKED = (
    "test_shapes.py::test_a_wrong_shape_is_refused",
    "properties/test_rules.py::test_shapes_are_as_annotated_where_the_reference_is_judged",
    "reference/test_detr_loss.py",
    "optimized/test_public_parts.py",
)


def test_shapes_are_as_annotated() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHECKED]
    environment = os.environ | {"CHECK_SHAPES": "1"}
    # In a process of its own: what is imported without checks stays unchecked.
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not os.environ.get("CHECK_SHAPES"), reason="the test above runs it, where shapes are checked")
def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        l1_distance(np.zeros((2, 3)), np.zeros((2, 4)))
