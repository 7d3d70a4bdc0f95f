"""`detr-conformance merge`: one report of the reports of several machines."""

from __future__ import annotations

import argparse

from detr_conformance.commands.arguments import Commands
from detr_conformance.writing import refuse_unwritable, write

ABOUT = "Join the reports of one run that was shared between machines. The exit status is that of check."


def add_parser(commands: Commands) -> None:
    """What `merge` takes."""
    parser = commands.add_parser("merge", help="join the reports of several machines", description=ABOUT)
    parser.set_defaults(run=_run)
    parser.add_argument("reports", metavar="REPORT", nargs="+", help="reports of one port, profile, level and seed")
    parser.add_argument("--json", metavar="FILE", required=True, help="write the report there")
    parser.add_argument("--incomplete", action="store_true", help="accept that rules are missing")


def _run(given: argparse.Namespace) -> int:
    from detr_conformance.console import Display
    from detr_conformance.reports.facts import exit_status
    from detr_conformance.reports.merging import merge, refuse_missing
    from detr_conformance.reports.reading import read_report

    refuse_unwritable(given.json, "--json")
    report = merge([read_report(path) for path in given.reports])
    if not given.incomplete:
        refuse_missing(report)
    write(given.json, report.to_json(), "--json")
    Display().again(report)
    return exit_status(report)
