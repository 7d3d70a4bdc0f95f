"""What changed between two reports, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from detr_conformance.errors import one_line
from detr_conformance.report import Report
from detr_conformance.reports.comparison import Change, Comparison
from detr_conformance.reports.facts import TITLES

KINDS = {
    "worse": "got worse",
    "better": "got better",
    "other": "changed, and is neither worse nor better",
    "new": "new: not in the old report",
    "gone": "gone: not in the new report",
}
LONGEST = 60


def text(comparison: Comparison, old: Report, new: Report) -> str:
    """The changes by kind, and in each kind by family; what decides comes last, where a terminal shows it."""
    lines = [*_conditions(comparison), *_changes(comparison), *_still(comparison)]
    return "\n".join([*lines, _outcome(comparison, old, new), ""])


def _conditions(comparison: Comparison) -> Iterator[str]:
    for name, before, after in comparison.conditions:
        yield f"{_cut(name)}: {_cut(before)} -> {_cut(after)}"
    if comparison.conditions:
        yield ""


def _changes(comparison: Comparison) -> Iterator[str]:
    for kind, heading in KINDS.items():
        changes = [change for change in comparison.changes if change.kind == kind]
        if changes:
            yield f"{heading}:"
            yield from map(_line, changes)
            yield ""


def _line(change: Change) -> str:
    verdicts = f"{change.before} -> {change.after}"
    return f"  {change.rule:9} {verdicts:26} {TITLES.get(change.rule, '')}".rstrip()


def _still(comparison: Comparison) -> Iterator[str]:
    if comparison.still:
        yield f"still broken: {', '.join(comparison.still)}"
        yield ""


def _outcome(comparison: Comparison, old: Report, new: Report) -> str:
    verdicts = new.verdict if old.verdict == new.verdict else f"{old.verdict} -> {new.verdict}"
    counts = [f"{sum(change.kind == kind for change in comparison.changes)} {kind}" for kind in KINDS]
    return f"{verdicts}: {', '.join(counts)}"


def _cut(value: str) -> str:
    return one_line(value, LONGEST)
