"""What a run looks like in a terminal: a row for each rule as it finishes, then what went wrong, then the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from detr_conformance.errors import visible
from detr_conformance.judgement import Judgement
from detr_conformance.report import Report, RuleEntry

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "error": "bold magenta",
    "unsupported": "yellow",
    "xfail": "yellow",
    "stale": "bold red",
    "conformant": "bold green",
    "partial": "bold yellow",
    "non-conformant": "bold red",
}
ID, VERDICT, CASES, SHARE = 9, 11, 6, 7
"""Widths of the columns; the title gets what is left."""
ALWAYS_COUNTED = ("pass", "fail", "error", "unsupported")


class Display:
    """Writes to a terminal, a pipe or a file, in the width that it has.

    Text that comes from a port is never read as markup.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Write to standard output as it is now; pytest swaps it while a rule runs."""
        self.console = console or Console(markup=False, highlight=False, emoji=False)

    def opening(self, judgement: Judgement) -> None:
        """What is about to be judged, and the head of the table."""
        name, profile = visible(judgement.port.name), judgement.profile.name
        self._say(f"{name}, profile {profile}, level {judgement.level}: {len(judgement.rules)} rules")
        if judgement.targets is not None:
            self._say(f"{visible(str(judgement.targets.path))}: {judgement.targets.summary}")
        self._say("")
        self._columns(*(Text(head, "bold") for head in ("rule", "", "verdict", "cases", "budget")))

    def row(self, entry: RuleEntry) -> None:
        """One rule that has finished."""
        share = "" if entry.share is None or entry.verdict == "unsupported" else f"{entry.share:.1%}"
        cases = "" if entry.verdict == "unsupported" else f"{entry.examples:,}"
        verdict = Text(entry.verdict, STYLES[entry.verdict])
        self._columns(Text(entry.id), Text(entry.title), verdict, Text(cases), Text(share))

    def closing(self, report: Report, seconds: float, interrupted: bool = False) -> None:
        """What went wrong, rule by rule; the verdict and the counts."""
        for entry in report.rules:
            if entry.verdict in ("fail", "error"):
                self._explanation(entry)
        self._say("\ninterrupted" if interrupted else "")
        self.console.print(Text(report.verdict, STYLES[report.verdict]), Text(f": {_counted(report, seconds)}"), sep="")

    def _explanation(self, entry: RuleEntry) -> None:
        self._say("")
        self.console.print(Text(entry.verdict, STYLES[entry.verdict]), Text(f"{entry.id} {entry.title}", "bold"))
        for text in (Text(entry.statement, "italic"), Text(entry.message)):
            self.console.print(Padding(text, (0, 0, 0, 2), expand=False))

    def _columns(self, *cells: Text) -> None:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=ID, no_wrap=True)
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column(width=VERDICT, no_wrap=True)
        row.add_column(width=CASES, no_wrap=True, justify="right")
        row.add_column(width=SHARE, no_wrap=True, justify="right")
        row.add_row(*cells)
        self.console.print(row)

    def _say(self, line: str) -> None:
        self.console.print(Text(line))


def _counted(report: Report, seconds: float) -> str:
    counts = [f"{count} {verdict}" for verdict, count in report.counts.items() if count or verdict in ALWAYS_COUNTED]
    if report.not_judged:
        counts.append(f"{len(report.not_judged)} not judged")
    cases = sum(entry.examples for entry in report.rules)
    return f"{', '.join(counts)}; {cases:,} cases in {seconds:.0f} s"
