"""`detr-conformance power`: measure the rules by the museum, and write down what came out."""

from __future__ import annotations

import argparse
import sys

from detr_conformance.commands.arguments import Commands, number
from detr_conformance.errors import UsageError
from detr_conformance.writing import refuse_unwritable, write

ABOUT = "Try every rule on every mutant of the museum. Exit status 1 where something is not failed that should be."


def add_parser(commands: Commands) -> None:
    """What `power` takes."""
    parser = commands.add_parser("power", help="measure which rules fail which known mistakes", description=ABOUT)
    parser.set_defaults(run=_run)
    cases = parser.add_mutually_exclusive_group()  # what is recorded has its seed
    cases.add_argument("--seed", type=number, default=0, help="which cases are drawn, any whole number (0)")
    cases.add_argument("--add", action="store_true", help="keep what is recorded, and try what is new alone")
    parser.add_argument("--jobs", type=number, help="number of processes (one for each core)")
    parser.add_argument("--json", metavar="FILE", help="write the matrix there")
    parser.add_argument("--markdown", metavar="FILE", help="write what it says there, for people")


def _run(given: argparse.Namespace) -> int:
    if given.jobs == 0:
        raise UsageError("--jobs is 0, expected at least 1")
    for option in ("json", "markdown"):
        refuse_unwritable(getattr(given, option), f"--{option}")
    from detr_conformance import generated_power
    from detr_conformance.power import NOTHING, measure, recorded
    from detr_conformance.power_text import markdown, shortcomings, summary

    known = recorded() if given.add else NOTHING
    matrix = measure(known.seed if given.add else given.seed, given.jobs, _tell, known)
    write(given.json, matrix.to_json(), "--json")
    write(given.markdown, markdown(matrix, generated_power.recorded()), "--markdown")
    found = shortcomings(matrix)
    sys.stdout.write("".join([summary(matrix), *(f"{line}\n" for line in found)]))
    return 1 if found else 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
