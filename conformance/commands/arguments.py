"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, TypeAlias

PORT = "a built-in port (see `detr-conformance list`), or package.module:attribute: a Port, or a factory of one"

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Where a command's parser is added: what argparse gives no public name."""


def number(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from 0 on")
    return int(text)


def gigabytes(text: str) -> float:
    """A size in memory, more than 0."""
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number of gigabytes above 0")
    return size


def shard(text: str) -> tuple[int, int]:
    """The I-th of N parts."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r}, expected I/N with I from 1 to N")
    return int(part), int(parts)


def absolute(text: str) -> str:
    """A path that is the same in every worker process, whatever its folder."""
    return str(Path(text).absolute())
