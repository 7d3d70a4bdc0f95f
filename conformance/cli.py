"""The command line: `detr-conformance COMMAND …`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from detr_conformance import __version__
from detr_conformance.commands import COMMANDS
from detr_conformance.errors import UsageError, one_line


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
    _never_fail_to_print()
    try:
        return _command(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        sys.stderr.write(f"detr-conformance: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


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
    """Spell out what an old terminal's encoding lacks instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
