"""The report as Markdown for the summary of a CI job: what is broken, then every rule, never too large to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from detr_conformance.errors import one_line, shortened
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports import facts

SIGNS = {"conformant": "✅", "partial": "🟡", "non-conformant": "❌"}
SYNTAX = re.compile(r"[\\`*_\[\]<>&|~$@:#]|(?<=www)\.", re.IGNORECASE)
"""What starts a construct inside a line, and what GitHub makes links and mentions of."""
LONGEST_CELL, MOST_LINES = 600, 12
LARGEST = 900_000
"""Bytes; GitHub refuses a job's summary from 1 MiB on."""


def markdown(report: Report) -> str:
    """The report as Markdown with tables, as GitHub and GitLab read it."""
    parts = (_head, _causes, _diagnosis, _broken, _remarks, _all_rules)
    lines = [line for part in parts for line in part(report)]
    return "\n".join(_bounded(lines)) + "\n"


def escaped(text: str) -> str:
    """The text as it is, whatever it looks like in Markdown or HTML: a reference to a character is never syntax."""
    return SYNTAX.sub(lambda found: f"&#{ord(found[0])};", text)


def cell(text: str) -> str:
    """The text as the content of a table's cell."""
    return "<br>".join(escaped(shortened(text, LONGEST_CELL, MOST_LINES)).split("\n"))


def _head(report: Report) -> Iterator[str]:
    name = escaped(one_line(report.port.name, 80))
    yield f"## {SIGNS[report.verdict]} {name} is {report.verdict}{facts.remarked(report)}"
    yield ""
    yield f"{facts.meaning(report)} Exit status {facts.exit_status(report)}."
    yield ""
    yield f"**{', '.join(f'{count} {word}' for word, count in facts.counted(report))}**"
    yield ""
    profile, version = (escaped(one_line(each, 80)) for each in (report.profile.name, report.suite.version))
    yield f"Profile {profile}, level {report.level}, seed {report.seed}, detr-conformance {version}."
    yield ""


def _causes(report: Report) -> Iterator[str]:
    entries = {entry.id: entry for entry in report.rules}
    for number, cause in enumerate(report.causes, start=1):
        yield f"{number}. **{escaped(one_line(cause.summary))}**"
        yield from (f"   - {escaped(one_line(line))}" for line in facts.about(cause, entries[cause.shown_by]))
    if report.causes:
        yield ""


def _diagnosis(report: Report) -> Iterator[str]:
    found = report.diagnosis
    if found is None:
        return
    yield f"**Diagnosis:** {cell(found.message)}"
    yield ""
    for mistake in found.deviations:
        address = facts.web_address(mistake)
        link = f" ([seen there](<{address}>))" if address else ""
        yield f"- {escaped(one_line(mistake.id))}: {cell(mistake.story)}{link}"
    if found.profile:
        yield f"\nIt follows the conventions of the profile {cell(found.profile)}."
    yield ""


def _broken(report: Report) -> Iterator[str]:
    entries = facts.broken(report)
    if not entries:
        return
    yield "| rule | verdict | what must hold | what came instead |"
    yield "|---|---|---|---|"
    for entry in entries:
        yield _row(f"{entry.id} {entry.title}", entry.verdict, entry.statement, _what_came(entry))
    yield ""


def _remarks(report: Report) -> Iterator[str]:
    entries = facts.remarks(report)
    if not entries:
        return
    yield "| remark | verdict | what should hold | why it need not | what came instead |"
    yield "|---|---|---|---|---|"
    for entry in entries:
        reason = entry.obligation_reason or ""
        yield _row(f"{entry.id} {entry.title}", entry.verdict, entry.statement, reason, _what_came(entry))
    yield ""


def _what_came(entry: RuleEntry) -> str:
    texts = [facts.message(entry), "" if entry.divergence is None else entry.divergence.message]
    return "\n".join(shortened(text, LONGEST_CELL // 2, MOST_LINES // 2) for text in texts if text)


def _all_rules(report: Report) -> Iterator[str]:
    yield f"<details><summary>All {facts.total(report)} rules</summary>"
    yield ""
    yield "| rule | verdict | cases | budget |"
    yield "|---|---|--:|--:|"
    for entry in report.rules:
        yield _row(f"{entry.id} {entry.title}", entry.verdict, facts.cases(entry), facts.share(entry))
    for rule in report.not_judged:
        yield _row(f"{rule} {facts.TITLES.get(rule, '')}", facts.NOT_JUDGED, "", "")
    yield ""
    yield "</details>"


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(cell, cells))} |"


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    """The lines until they would become too large."""
    size = 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > LARGEST:
            yield "\nMore does not fit here: see the report."
            return
        yield line
