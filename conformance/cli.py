"""The command line: `detr-conformance COMMAND …`."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from detr_conformance import __version__
from detr_conformance.commands import COMMANDS
from detr_conformance.errors import UsageError, one_line
from detr_conformance.supervisor import INTERRUPTED

UNWRITABLE = (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF, errno.EDQUOT)
"""Why what is to be shown cannot be: a full disk, nobody who reads it."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and takes no option for another whose name it begins."""

    def __init__(self, **options: Any) -> None:
        """As argparse has it, without abbreviations."""
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        hint = ", pytest's go after --" if message.startswith("unrecognized") else ""
        raise UsageError(f"{one_line(message)}{hint}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments after the program's name; by default those of the process.

    Returns:
        The exit status: 0 conformant or partial, 1 non-conformant, 2 the run could not be made, 130 interrupted.
    """
    try:
        _never_fail_to_print()
        status = _command(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except UsageError as error:
        _complain(str(error))
    except OSError as error:  # whatever else is written says so itself
        if error.errno not in UNWRITABLE:
            raise
        discard_stdout()
        _complain(f"stdout cannot be written ({error.strerror}): not all was shown")
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return status
    return 2


def discard_stdout() -> None:
    """Let go of what is still to be written, or Python would try again at its end."""
    with suppress(OSError, ValueError):  # stdout has no number where it is captured
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(sentence: str) -> None:
    with suppress(OSError, AttributeError):  # stderr is full or closed: the exit status has to do
        sys.stderr.write(f"detr-conformance: {sentence}\n")
        sys.stderr.flush()


def _command(argv: list[str]) -> int:
    own, pytest_arguments = _split(argv)
    arguments = parser().parse_args(own)
    if arguments.command == "check":
        return int(arguments.run(arguments, pytest_arguments))
    if pytest_arguments:
        raise UsageError(f"{arguments.command} takes no arguments after --: leave them out")
    return int(arguments.run(arguments))


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those of pytest."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def parser() -> Parser:
    """What the command line may hold."""
    of_all = Parser(prog="detr-conformance", description="Judge a port of the DETR / RT-DETR training loss.")
    of_all.add_argument("--version", action="version", version=f"detr-conformance {__version__}")
    commands = of_all.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add_parser(commands)
    return of_all


def _never_fail_to_print() -> None:
    """Spell out what an old terminal's encoding lacks instead of raising.

    Raises:
        UsageError: there is no stdout.
    """
    if sys.stdout is None:
        raise UsageError("stdout is closed: send it to /dev/null if nobody is to read it")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
