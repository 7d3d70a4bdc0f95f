"""Where in a port an exception was raised."""

from __future__ import annotations

import sys
import traceback
from pathlib import PurePath
from types import FrameType

LIBRARIES = frozenset(
    {
        "beartype",
        "flax",
        "jax",
        "jaxtyping",
        "keras",
        "numba",
        "numpy",
        "optax",
        "paddle",
        "scipy",
        "tensorflow",
        "torch",
        "torchvision",
    }
)
"""What ports are written with: what is wrong lies in the line that calls them."""
OF_THE_SUITE = "detr_conformance"
JUDGED = ("detr_conformance.optimized", "detr_conformance.reference")
"""What is of the suite and may be a port, or part of one."""


def place_in_port(error: BaseException) -> str | None:
    """The last line that is neither the suite's nor a library's: its file, line and function; None if there is none.

    A file is named as the module is imported: nothing is told of where it lies on this machine.
    """
    through = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_theirs(_module(frame))]
    if not through:
        return None
    frame, line = through[-1]
    file = PurePath(frame.f_code.co_filename)
    parts = _module(frame).count(".") + (2 if file.stem == "__init__" else 1)
    return f"{'/'.join(file.parts[-parts:])}, line {line}, in {frame.f_code.co_name}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_theirs(module: str) -> bool:
    """Whether a module is the port's own."""
    first = module.partition(".")[0]
    if first == OF_THE_SUITE:
        return module.startswith(JUDGED)
    return first not in LIBRARIES and first not in sys.stdlib_module_names
