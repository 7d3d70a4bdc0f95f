"""Ways to write down a mutant's change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from detr_conformance.mutants.mutant import Change
from detr_conformance.reference import wrap_in


def wrapped(path: str, wrong: Callable[..., Any]) -> Change:
    """One function of the spec made wrong: `wrong` is asked in its place, with the right function before all else."""
    return lambda spec: wrap_in(spec, path, lambda right: partial(wrong, right))
