"""The command line: `detr-conformance check | list | spec`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from detr_conformance import __version__
from detr_conformance.errors import UsageError, one_line
from detr_conformance.options import TIMEOUTS, CheckOptions

PORT_HELP = "a built-in port (see `detr-conformance list`), or package.module:attribute: a Port, or a factory of one"
AFTER_DASHES = "Arguments after -- go to pytest, such as -k MATCH, -n 4, -x, --junitxml FILE."


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

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
    arguments = _parser().parse_args(own)
    if arguments.command == "check":
        from detr_conformance.check import check

        names = CheckOptions.__struct_fields__
        options = CheckOptions(**{name: getattr(arguments, name) for name in names})
        return check(options, arguments.json, pytest_arguments)
    if pytest_arguments:
        raise UsageError(f"{arguments.command} takes no arguments after --: leave them out")
    from detr_conformance.spec import listing, markdown

    sys.stdout.write(markdown() if arguments.command == "spec" else listing())
    return 0


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and those of pytest."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def _parser() -> Parser:
    parser = Parser(prog="detr-conformance", description="Judge a port of the DETR / RT-DETR training loss.")
    parser.add_argument("--version", action="version", version=f"detr-conformance {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check | list | spec")
    check = commands.add_parser("check", help="judge a port", description="Judge a port.", epilog=AFTER_DASHES)
    commands.add_parser("list", help="list the rules and the built-in ports")
    commands.add_parser("spec", help="print the rules in Markdown")

    check.add_argument("port", metavar="PORT", help=PORT_HELP)
    check.add_argument("--adapter", help="the attribute is a loss class; `ultralytics` says how to build and call it")
    check.add_argument("--denoising", metavar="MODULE:FUNCTION", help="a generator like get_cdn_group, with --adapter")
    check.add_argument("--profile", help="conventions to hold the port to, instead of those that it names")
    check.add_argument("--level", choices=list(TIMEOUTS), default="standard", help="how many cases (default: standard)")
    cases = check.add_mutually_exclusive_group()
    cases.add_argument("--targets", metavar="FILE", help="COCO annotations: judge on the boxes of these images as well")
    cases.add_argument("--case", metavar="FILE", help="a case in JSON: judge on this one alone")
    check.add_argument("--json", metavar="FILE", help="write the report there")
    return parser


def _never_fail_to_print() -> None:
    """Spell out what an old terminal's encoding lacks instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
