"""What a call changes in the world around it is seen, and nothing else is."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from detr_conformance.properties.global_state import changed, snapshot


def test_what_nobody_touches_has_not_changed():
    before = snapshot()
    random.random()  # noqa: S311  # Python's own generator is not looked at
    np.random.default_rng(0).random()
    assert changed(before, snapshot()) == []


def test_a_number_drawn_from_the_global_generator_of_numpy_shows():
    before = snapshot()
    np.random.random()  # noqa: NPY002  # what is to be seen
    assert changed(before, snapshot()) == ["NumPy's global random generator"]


def test_what_is_changed_in_torch_shows():
    torch = pytest.importorskip("torch")
    before = snapshot()
    with torch.inference_mode():
        torch.rand(1)
        torch.set_default_dtype(torch.float64)
        after = snapshot()
    torch.set_default_dtype(torch.float32)
    assert [name.split("'s ")[1] for name in changed(before, after)] == [
        "global random generator",
        "default dtype",
        "gradient mode",
    ]


def test_without_torch_numpy_alone_is_looked_at(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert list(snapshot()) == ["NumPy's global random generator"]
