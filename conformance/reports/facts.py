"""What a report says, ready to be shown: the one place where every form gets its words from."""

from __future__ import annotations

from detr_conformance.properties.rule import FAMILIES
from detr_conformance.properties.rules import RULES
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports.extras import blocked_by

BROKEN = ("fail", "error", "stale")
"""Verdicts that make a run non-conformant."""

MEANING = {
    "conformant": "Every rule that applies to this port was judged, and holds.",
    "partial": "No rule is broken, but not every rule could be judged: what is missing is listed below.",
    "non-conformant": "At least one rule is broken: each is explained below.",
}
EXIT_STATUS = {"conformant": 0, "partial": 0, "non-conformant": 1}
TITLES = {rule.id: rule.title for rule in RULES}
STALE = "the rule is on the list of known deviations and holds: take it off the list"
NOT_JUDGED = "not judged"


def broken(report: Report) -> list[RuleEntry]:
    """The rules that make the run non-conformant; those that only follow from another one come last."""
    return sorted((entry for entry in report.rules if entry.verdict in BROKEN), key=lambda each: bool(blocked_by(each)))


def exit_status(report: Report) -> int:
    """With which `check` ended."""
    return EXIT_STATUS[report.verdict]


def rule_order(rule_id: str) -> tuple[int, str, int]:
    """Sorts ids by family and number; families that this version does not know come last."""
    first, _, number = rule_id.partition("-")
    known = list(FAMILIES)
    return known.index(first) if first in known else len(known), first, int(number)


def family(rule_id: str) -> str:
    """The part of an id before the dash."""
    return rule_id.partition("-")[0]


def message(entry: RuleEntry) -> str:
    """Why the verdict is what it is; empty for a pass."""
    return entry.message or (STALE if entry.verdict == "stale" else "")


def counted(report: Report) -> list[tuple[str, int]]:
    """How many rules have each verdict, those that were not judged among them, without the zeros."""
    return [(word, count) for word, count in [*report.counts.items(), (NOT_JUDGED, len(report.not_judged))] if count]


def total(report: Report) -> int:
    """Number of rules that apply to the port."""
    return len(report.rules) + len(report.not_judged)


def share(entry: RuleEntry) -> str:
    """The share of the budget that was used, as a percentage; empty if there is none."""
    return "" if entry.share is None or entry.verdict == "unsupported" else f"{entry.share:.1%}"


def cases(entry: RuleEntry) -> str:
    """The number of cases; empty for a rule that was not tried."""
    return "" if entry.verdict == "unsupported" else f"{entry.examples:,}"
