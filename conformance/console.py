"""What a run looks like in a terminal: a row for each family or rule as it finishes, the verdict, and its causes."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from detr_conformance.check_plan import CheckPlan
from detr_conformance.errors import one_line, shortened, visible
from detr_conformance.properties.rule import FAMILIES
from detr_conformance.report import Cause, PortFacts, Report, RuleEntry
from detr_conformance.reports import facts
from detr_conformance.reports.causes import MOST_CAUSES, causes_of_remarks
from detr_conformance.reports.composing import port_facts

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
LONGEST_NAME = 80
"""Of what is shown of a port's name."""
ALWAYS_COUNTED = ("pass", "fail", "error", "unsupported")


class Display:
    """Writes to a terminal, a pipe or a file, in the width that it has.

    Text that comes from a port is never read as markup.

    Args:
        every_rule: show a row for each rule, and explain each that is broken; else rows for families, and causes.
    """

    def __init__(self, every_rule: bool = True) -> None:
        """Write to standard output as it is now; pytest swaps it while a rule runs."""
        self.console = Console(markup=False, highlight=False, emoji=False)
        self.every_rule = every_rule
        self._left: dict[str, set[str]] = {}
        self._came: dict[str, list[RuleEntry]] = {}

    def opening(self, judgement: CheckPlan) -> None:
        """What is about to be judged, and the head of the table."""
        conditions = f"profile {judgement.profile.name}, level {judgement.level}, seed {judgement.seed}"
        self._say(f"{one_line(judgement.port.name, LONGEST_NAME)}, {conditions}: {len(judgement.rules)} rules")
        self._restrictions(port_facts(judgement.port, {}))
        if judgement.targets is not None:
            self._say(f"{visible(str(judgement.targets.path))}: {judgement.targets.summary}")
        for rule in judgement.rules:
            self._left.setdefault(facts.family(rule.id), set()).add(rule.id)
        if self.every_rule:
            self._head()

    def again(self, report: Report) -> None:
        """A report that was made earlier, or elsewhere, as its run would have shown it."""
        conditions = f"profile {one_line(report.profile.name)}, level {report.level}, seed {report.seed}"
        self._say(f"{one_line(report.port.name, LONGEST_NAME)}, {conditions}: {len(report.rules)} rules")
        self._restrictions(report.port)
        self._head()
        for entry in report.rules:
            self.row(entry)
        self.closing(report)

    def row(self, entry: RuleEntry) -> None:
        """One rule that has finished, or the family whose last one it is."""
        if self.every_rule:
            self._row_of_rule(entry)
            return
        family = facts.family(entry.id)
        self._came.setdefault(family, []).append(entry)
        self._left[family].discard(entry.id)
        if not self._left[family]:
            self._row_of_family(family)

    def _row_of_family(self, family: str) -> None:
        """What came of its rules."""
        counts = Counter(entry.verdict for entry in self._came.pop(family, []))
        if counts:
            text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
            self._say(f"{family:<6} {FAMILIES[family]}: {text}")

    def _rest_of_families(self) -> None:
        """Those of which not every rule was judged."""
        for family in list(self._came):
            self._row_of_family(family)

    def _row_of_rule(self, entry: RuleEntry) -> None:
        verdict, title = Text(entry.verdict, _style(entry)), Text(one_line(entry.title))
        self._columns(Text(entry.id), title, verdict, Text(facts.cases(entry)), Text(facts.share(entry)))

    def explaining(self, seconds: float) -> None:
        """What is being done while nothing is shown."""
        self._rest_of_families()
        self._say(f"looking for a known mistake that explains the failures, at most {seconds:g} s")

    def closing(self, report: Report, seconds: float | None = None, interrupted: bool = False) -> None:
        """What went wrong, rule by rule, and what that has in common; or the causes alone. With the verdict."""
        if self.every_rule:
            for entry in (*facts.remarks(report), *facts.broken(report)):
                self._explanation(entry)
            self._diagnosis(report)
        self._rest_of_families()
        self._say("\ninterrupted" if interrupted else "")
        counted = Text(f"{facts.remarked(report)}: {_counted(report, seconds)}")
        self.console.print(Text(report.verdict, STYLES[report.verdict]), counted, sep="")
        if not self.every_rule:
            self._causes(report)

    def _causes(self, report: Report) -> None:
        """What is wrong, in few lines, however many rules are broken by it."""
        entries = {entry.id: entry for entry in report.rules}
        self._say("")
        for number, cause in enumerate(report.causes[:MOST_CAUSES], start=1):
            self.console.print(Text(f"{number}. {one_line(cause.summary)}", "bold"))
            for line in facts.about(cause, entries[cause.shown_by]):
                self.console.print(Padding(Text(one_line(line)), (0, 0, 0, 3), expand=False))
        left = [rule for cause in report.causes[MOST_CAUSES:] for rule in cause.rules]
        if left:
            self._say(f"and {len(report.causes) - MOST_CAUSES} more causes: {facts.some(left)}")
        self._diagnosis(report)
        self._remarks(report)
        if report.causes or facts.remarks(report):
            self._say("each rule and its message: --every-rule, or --json and the report")

    def _remarks(self, report: Report) -> None:
        """What makes no run non-conformant, a line for each cause that is not among those above."""
        entries = {entry.id: entry for entry in report.rules}
        said = {cause.summary for cause in report.causes}
        remarks = causes_of_remarks(report.rules)
        new = [cause for cause in remarks if cause.summary not in said]
        follow = [rule for cause in remarks if cause.summary in said for rule in cause.rules]
        lines = [f"remark: {_remark(cause, entries[cause.shown_by])}" for cause in new[:MOST_CAUSES]]
        lines += [f"and {len(new) - MOST_CAUSES} more remarks"] if len(new) > MOST_CAUSES else []
        lines += [f"remarks for causes above: {facts.some(follow)}"] if follow else []
        if lines:
            self._say("\n" + "\n".join(lines))

    def _restrictions(self, port: PortFacts) -> None:
        said = facts.restrictions(port)
        if said:
            self._say(one_line(said))

    def _explanation(self, entry: RuleEntry) -> None:
        self._say("")
        title = Text(one_line(f"{entry.id} {entry.title}"), "bold")
        self.console.print(Text("remark" if entry.is_remark else entry.verdict, _style(entry)), title)
        for text in (Text(shortened(entry.statement), "italic"), *map(Text, _what_came(entry))):
            self.console.print(Padding(text, (0, 0, 0, 2), expand=False))

    def _diagnosis(self, report: Report) -> None:
        found = report.diagnosis
        if found is not None:
            self._say("")
            self.console.print(Text("diagnosis", "bold"), Text(shortened(found.message)))
            for mistake in found.deviations:
                line = Text(f"{one_line(mistake.id)}: {one_line(f'{mistake.story} {facts.web_address(mistake)}')}")
                self.console.print(Padding(line, (0, 0, 0, 2), expand=False))
        if facts.hint(report):
            self._say(one_line(facts.hint(report)))

    def _head(self) -> None:
        self._say("")
        self._columns(*(Text(head, "bold") for head in ("rule", "", "verdict", "cases", "budget")))

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


def _remark(cause: Cause, shown: RuleEntry) -> str:
    said = cause.summary if shown.raised is not None else shown.message
    return f"{one_line(said)} ({facts.some(cause.rules)})"


def _style(entry: RuleEntry) -> str:
    """Of the verdict: what breaks no run does not look as if it did."""
    return "yellow" if entry.is_remark else STYLES[entry.verdict]


def _what_came(entry: RuleEntry) -> list[str]:
    """The message, where the numbers part ways, and the rule to look at first, as far as there are such."""
    parting = "" if entry.divergence is None else entry.divergence.message
    blocking = f"follows from {entry.blocked_by}" if entry.blocked_by else ""
    texts = (facts.obligation(entry), facts.message(entry), parting, blocking)
    traced = "" if entry.raised is None else entry.raised.traceback
    return [shortened(text) for text in (*texts, traced) if text]


def _counted(report: Report, seconds: float | None) -> str:
    numbers = report.counts.by_verdict()
    counts = [f"{count} {verdict}" for verdict, count in numbers.items() if count or verdict in ALWAYS_COUNTED]
    if report.not_judged:
        counts.append(f"{len(report.not_judged)} not judged")
    cases = sum(entry.examples for entry in report.rules)
    return f"{', '.join(counts)}; {cases:,} cases{'' if seconds is None else f' in {seconds:.0f} s'}"
