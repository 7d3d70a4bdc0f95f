"""`detr-conformance report`: a report in other forms."""

from __future__ import annotations

import argparse
from pathlib import Path

from detr_conformance.commands.arguments import Commands
from detr_conformance.errors import UsageError
from detr_conformance.writing import refuse_unwritable, write

ABOUT = "Write a report of check --json in other forms; without an option, print it as check did."
FORMS = {
    "html": "one page with everything, which needs nothing else",
    "markdown": "for the summary of a CI job",
    "junit": "JUnit XML, for the list of tests of a CI system",
    "badge": "the verdict in the form of shields.io's endpoint",
}


def add_parser(commands: Commands) -> None:
    """What `report` takes."""
    parser = commands.add_parser("report", help="write a report in other forms", description=ABOUT)
    parser.set_defaults(run=_run)
    parser.add_argument("report", metavar="REPORT", help="a report that check --json wrote")
    for form, about in FORMS.items():
        parser.add_argument(f"--{form}", metavar="FILE", help=about)


def _run(given: argparse.Namespace) -> int:
    """Exit status 0: a verdict is no failure of its own report."""
    from detr_conformance.console import Display
    from detr_conformance.reports.badge import badge
    from detr_conformance.reports.junit import junit
    from detr_conformance.reports.markdown import markdown
    from detr_conformance.reports.page import page
    from detr_conformance.reports.reading import read_report

    report = read_report(given.report)
    outputs = {form: path for form in FORMS if (path := getattr(given, form)) is not None}
    _refuse_collisions(given.report, outputs)
    for form, path in outputs.items():
        refuse_unwritable(path, f"--{form}")
    forms = {"html": page, "markdown": markdown, "junit": junit, "badge": badge}
    for form, path in outputs.items():
        write(path, forms[form](report), f"--{form}")
    if not outputs:
        Display().again(report)
    return 0


def _refuse_collisions(source: str, outputs: dict[str, str]) -> None:
    """Nothing may overwrite the report, or another form of it."""
    taken = {Path(source).resolve(): "the report itself"}
    for form, path in outputs.items():
        place = Path(path).resolve()
        if place in taken:
            raise UsageError(f"--{form} {path} would overwrite {taken[place]}: give it another path")
        taken[place] = f"what --{form} writes"
