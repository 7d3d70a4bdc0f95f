"""What a call changes in the world around it is seen, and nothing else is."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from detr_conformance.properties.global_state import changed, set_by, snapshot


def test_what_nobody_touches_has_not_changed():
    before = snapshot()
    np.random.default_rng(0).random()
    assert changed(before, snapshot()) == []


@pytest.mark.parametrize(("draw", "owner"), [(np.random.random, "NumPy"), (random.random, "Python")])
def test_a_number_drawn_from_a_global_generator_shows(draw, owner):
    before = snapshot()
    draw()
    assert changed(before, snapshot()) == [f"{owner}'s global random generator"]


def test_who_draws_sets_nothing_and_who_seeds_does():
    assert set_by(lambda: (random.random(), np.random.random(7))) == []  # noqa: NPY002, S311  # the global ones
    assert set_by(lambda: random.seed(1)) == ["Python's global random generator"]
    assert set_by(lambda: (np.random.random(), np.random.seed(1))) == ["NumPy's global random generator"]  # noqa: NPY002


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
    assert list(snapshot()) == ["NumPy's global random generator", "Python's global random generator"]
