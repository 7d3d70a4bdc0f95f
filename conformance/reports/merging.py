"""One report of several that share a run between them, such as those of `check --shard i/n` on n machines."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from detr_conformance.errors import UsageError
from detr_conformance.report import Diagnosis, Report, RuleEntry
from detr_conformance.reports.causes import causes_of
from detr_conformance.reports.comparison import differing
from detr_conformance.reports.facts import broken, rule_order
from detr_conformance.reports.verdict import counts_of, overall

SHOWN = 8
"""So many rules are named in a sentence."""


def merge(reports: Sequence[Report]) -> Report:
    """The report on every rule that one of the reports judged.

    Args:
        reports: at least one, in any order.

    Raises:
        UsageError: they are not parts of one run.
    """
    first, *others = reports
    for other in others:
        _refuse_another_run(first, other)
    entries = _entries(reports)
    not_judged = sorted(rules_of(first) - {entry.id for entry in entries}, key=rule_order)
    return msgspec.structs.replace(
        first,
        rules=entries,
        counts=counts_of(entries),
        not_judged=not_judged,
        verdict=overall(entries, complete=not not_judged),
        diagnosis=_diagnosis(reports),
        causes=causes_of(entries),
    )


def refuse_missing(report: Report) -> None:
    """Raise UsageError where nobody judged a rule: a shard's report was forgotten, or its run broke off."""
    missing = report.not_judged
    if missing:
        named = f"{', '.join(missing[:SHOWN])}{f' and {len(missing) - SHOWN} others' if len(missing) > SHOWN else ''}"
        raise UsageError(
            f"none of the reports judged {named}: add the report of every shard, or pass --incomplete to do without"
        )


def rules_of(report: Report) -> set[str]:
    """Ids of all rules that apply to the port."""
    return {entry.id for entry in report.rules} | set(report.not_judged)


def _refuse_another_run(first: Report, other: Report) -> None:
    for name, one, another in differing(first, other):
        raise UsageError(f"the reports are not of one run: {name} is {one} in the first, and {another} in another")
    strange = sorted(rules_of(first) ^ rules_of(other), key=rule_order)
    if strange:
        raise UsageError(f"the reports are not of one run: {strange[0]} is in one of them, and unknown to another")


def _entries(reports: Sequence[Report]) -> list[RuleEntry]:
    """The rules in their order; one that several reports judged, and agree on, once."""
    entries: dict[str, RuleEntry] = {}
    for entry in (entry for report in reports for entry in report.rules):
        known = entries.setdefault(entry.id, entry)
        if known.verdict != entry.verdict:
            raise UsageError(
                f"the reports disagree: {entry.id} is {known.verdict} in one, and {entry.verdict} in another"
            )
    return sorted(entries.values(), key=lambda entry: rule_order(entry.id))


def _diagnosis(reports: Sequence[Report]) -> Diagnosis | None:
    """That of the report which saw most failures: diagnoses of parts do not add up to one of the whole."""
    having = [report for report in reports if report.diagnosis is not None]
    return max(having, key=lambda report: len(broken(report))).diagnosis if having else None
