"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, TypeAlias

from detr_conformance.errors import UsageError
from detr_conformance.options import COMMAND

PORT = "a built-in port (see `detr-conformance list`), or package.module:attribute: a Port, or a factory of one"

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Where a command's parser is added: what argparse gives no public name."""


def add_port(parser: argparse.ArgumentParser) -> None:
    """How a port is named: a name, or a command."""
    parser.add_argument("port", metavar="PORT", nargs="?", help=PORT)
    parser.add_argument(
        "--command", dest="started_by", metavar="COMMAND", help="start the port, which speaks JSON lines"
    )
    parser.add_argument("--adapter", help="the attribute is a loss class; `ultralytics` says how to build and call it")
    parser.add_argument("--denoising", metavar="MODULE:FUNCTION", help="a generator like get_cdn_group, with --adapter")


def port_of(given: argparse.Namespace) -> dict[str, Any]:
    """What `CheckOptions` says of the port that was named.

    Raises:
        UsageError: none was named, or two.
    """
    if given.started_by is None:
        if given.port is None:
            raise UsageError("no port is named: expected PORT, or --command COMMAND; see --help")
        return {"port": given.port, "adapter": given.adapter, "denoising": given.denoising}
    if given.port is not None or given.adapter is not None or given.denoising is not None:
        raise UsageError("--command stands for PORT, --adapter and --denoising: leave those out")
    return {"port": given.started_by, "adapter": COMMAND, "denoising": None}


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
