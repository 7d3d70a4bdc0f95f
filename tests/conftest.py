"""Switches for tests that call the suite thousands of times."""

from __future__ import annotations

import jaxtyping
import pytest
from hypothesis import Phase

from detr_conformance.properties import run as running


@pytest.fixture
def shapes_unchecked():
    """Checks of shapes and types at run time are off: they take most of the time, or hide what the code itself says."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def unshrunk(monkeypatch):
    """The first case that fails is as good as the smallest, and found in a tenth of the time."""
    options = running.level_options
    monkeypatch.setattr(running, "level_options", lambda *which: options(*which) | {"phases": (Phase.generate,)})
