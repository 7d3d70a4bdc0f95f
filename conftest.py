"""The suite's own tests: shapes checked at run time on demand, Hypothesis settings that depend on nothing outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, Verbosity, settings

ROOT = Path(__file__).parent

# Before the first import below detr_conformance: what is already imported keeps its annotations unchecked.
# pytest itself has by now imported the package and its plugin.
ALREADY_IMPORTED = sorted(name for name in sys.modules if name.startswith("detr_conformance."))
CHECKED = bool(os.environ.get("CHECK_SHAPES"))  # tests/test_shapes.py sets it: a run with checks takes twice as long
# Every operation on a tracked array goes through these, and hardly an annotation in them says anything:
# checking them would take most of the time that the tests take.
UNCHECKED = {"rounding", "rounding_rules", "tape"}
# `compiled` is read by torch, and the kernels by Triton: neither finds what it looks for in a function that is wrapped.
UNCHECKED |= {"compiled", "kernels"}
NAMESPACES = {
    "optimized": "detr_conformance.optimized",
    "reference": "detr_conformance.reference",
    "properties": "detr_conformance.properties",
}
NAMESPACES |= {"conformance": "detr_conformance"}


def checked_modules() -> list[str]:
    """Every module and sub-package of ours by the name that it is imported by, except the unchecked."""
    entries = [(folder, entry.stem) for folder in NAMESPACES for entry in (ROOT / folder).iterdir()]
    return sorted(f"{NAMESPACES[folder]}.{stem}" for folder, stem in entries if stem not in UNCHECKED)


if CHECKED:
    from jaxtyping import install_import_hook

    install_import_hook(checked_modules(), "beartype.beartype")

# Every field, so that neither Hypothesis' own defaults nor its notion of a CI machine changes what is tested.
# Derandomised and without a database: a test that fails on one machine fails on all.
settings.register_profile(
    "ci",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
    stateful_step_count=20,
    report_multiple_bugs=False,
    suppress_health_check=(),
    verbosity=Verbosity.normal,
    print_blob=True,
    backend="hypothesis",
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=2000, derandomize=False)
settings.load_profile("ci")  # another one: pytest --hypothesis-profile thorough


def pytest_report_header() -> str:
    """Say whether shapes are checked."""
    if not CHECKED:
        return "shapes: checked by tests/test_shapes.py, or everywhere with CHECK_SHAPES=1"
    return f"shapes: checked by beartype, except in {', '.join([*sorted(UNCHECKED), *ALREADY_IMPORTED])}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a CUDA test where there is no device."""
    if item.get_closest_marker("cuda"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
