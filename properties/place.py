"""What a port raised, and where in it."""

from __future__ import annotations

import linecache
import sys
import traceback
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType, TracebackType

from detr_conformance.properties.answers import RAISED, shortened

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
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages, of which any may be the port's own, or one that it uses."""
OF_THE_SUITE = "detr_conformance"
JUDGED = ("detr_conformance.optimized", "detr_conformance.reference")
"""What is of the suite and may be a port, or part of one."""


MOST_FRAMES = 40
"""Of a traceback, the last: a recursion has a thousand."""


@dataclass(frozen=True)
class Raised:
    """An exception of a port.

    Attributes:
        type: name of its class.
        message: its own.
        place: the last line that is neither the suite's nor a library's, with file and function; if it is in an
            installed package that a file elsewhere calls, the line of that file as well. None if there is none.
        traceback: the lines that led there, from the port's first on, in one text.
    """

    type: str
    message: str
    place: str | None = None
    traceback: str = ""


class RaisedElsewhere(Exception):  # noqa: N818  # it stands for any
    """An exception of a port in a process of its own, which has told what it raised.

    Attributes:
        raised: what it told.
    """

    def __init__(self, raised: Raised) -> None:
        """Keep it."""
        super().__init__(f"{raised.type}: {raised.message}")
        self.raised = raised


def raised_by(error: BaseException) -> Raised:
    """What is told of an exception. Files are named as modules are imported, wherever they lie on this machine."""
    if isinstance(error, RaisedElsewhere):
        return error.raised
    frames = list(traceback.walk_tb(_traceback_of(error)))
    theirs = [place for place, (frame, _) in enumerate(frames) if _is_theirs(_module(frame))]
    own = frames[theirs[0] :][-MOST_FRAMES:] if theirs else []
    kind, message = type(error).__name__, shortened(error)
    lines = [f"{_place(*each)}\n    {linecache.getline(each[0].f_code.co_filename, each[1]).strip()}" for each in own]
    return Raised(
        type=kind,
        message=message,
        place=_place_in_port([frames[place] for place in theirs]),
        traceback="\n".join([*lines, f"{kind}: {message}"]),
    )


def _place_in_port(theirs: list[tuple[FrameType, int]]) -> str | None:
    if not theirs:
        return None
    own = [each for each in theirs if not _is_installed(each[0])]
    called = f", called at {_place(*own[-1])}" if own and _is_installed(theirs[-1][0]) else ""
    return _place(*theirs[-1]) + called


def _is_installed(frame: FrameType) -> bool:
    return not INSTALLED.isdisjoint(PurePath(frame.f_code.co_filename).parts)


def _traceback_of(error: BaseException) -> TracebackType | None:
    try:
        return error.__traceback__
    except RAISED:  # an attribute of its own
        return None


def _place(frame: FrameType, line: int) -> str:
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
