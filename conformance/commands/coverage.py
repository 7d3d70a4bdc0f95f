"""`detr-conformance coverage`: measure what the rules ask a port for, and write down what came out."""

from __future__ import annotations

import argparse
import sys

from detr_conformance.commands.arguments import Commands, number
from detr_conformance.writing import refuse_unwritable, write

ABOUT = "Count what the rules ask a port for. Exit status 1 where an end of a promised range is not reached at smoke."


def add_parser(commands: Commands) -> None:
    """What `coverage` takes."""
    parser = commands.add_parser("coverage", help="measure what the rules ask a port for", description=ABOUT)
    parser.set_defaults(run=_run)
    parser.add_argument("--seed", type=number, default=0, help="which cases are drawn, any whole number (0)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", metavar="FILE", help="write what they say there, for people")


def _run(given: argparse.Namespace) -> int:
    for option in ("json", "markdown"):
        refuse_unwritable(getattr(given, option), f"--{option}")
    from detr_conformance.coverage import measure, unreached
    from detr_conformance.coverage_text import markdown

    coverage = measure(given.seed, _tell)
    write(given.json, coverage.to_json(), "--json")
    write(given.markdown, markdown(coverage), "--markdown")
    found = list(unreached(coverage.figures["smoke"]))
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
