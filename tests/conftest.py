"""Switches for tests that call the suite thousands of times."""

from __future__ import annotations

import jaxtyping
import pytest


@pytest.fixture
def shapes_unchecked():
    """Checks of shapes and types at run time are off: they take most of the time, or hide what the code itself says."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
