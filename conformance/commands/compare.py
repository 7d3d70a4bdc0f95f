"""`detr-conformance compare`: what changed from one report to another."""

from __future__ import annotations

import argparse
import sys

from detr_conformance.commands.arguments import Commands

ABOUT = "Say what changed. Exit status 1 where a rule got worse: it is judged no more, or is broken now and was not."


def add_parser(commands: Commands) -> None:
    """What `compare` takes."""
    parser = commands.add_parser("compare", help="say what changed from one report to another", description=ABOUT)
    parser.set_defaults(run=_run)
    parser.add_argument("old", metavar="OLD", help="a report that check --json wrote")
    parser.add_argument("new", metavar="NEW", help="a later one")


def _run(given: argparse.Namespace) -> int:
    from detr_conformance.reports.comparison import compare
    from detr_conformance.reports.comparison_text import text
    from detr_conformance.reports.reading import read_report

    old, new = read_report(given.old), read_report(given.new)
    comparison = compare(old, new)
    sys.stdout.write(text(comparison, old, new))
    return int(comparison.got_worse)
