"""Two reports beside each other: what got worse, what got better, and what else is not as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from detr_conformance.errors import one_line
from detr_conformance.properties.port import OPTIONS
from detr_conformance.properties.verdict_words import Obligation
from detr_conformance.report import FAILED, Report
from detr_conformance.reports.facts import NOT_JUDGED, options, rule_order

RANKS = {"pass": 0, "unsupported": 1, "xfail": 1, NOT_JUDGED: 1, "fail": 2, "error": 2, "stale": 2}
"""What the verdict of a MUST makes of the whole run at best: conformant, partial, non-conformant."""
REMARK = 1
"""A SHOULD that does not hold is worse than one that does, and breaks no run."""

ABSENT = "absent"


class Change(msgspec.Struct, frozen=True):
    """A rule whose verdict is another one; `absent` where a report does not know the rule."""

    rule: str
    before: str
    after: str
    obligation: Obligation = "MUST"

    @property
    def kind(self) -> str:
        """new, gone, worse, better, or other: a change that decides nothing, as from fail to error."""
        if self.before == ABSENT:
            return "new"
        if self.after == ABSENT:
            return "gone"
        if self.before != NOT_JUDGED and self.rank(self.after) > self.rank(self.before):
            return "worse"
        return "better" if self.after == "pass" else "other"

    @property
    def is_still_broken(self) -> bool:
        """Whether nothing has changed, and the run is non-conformant for it."""
        return self.before == self.after and self.rank(self.after) == max(RANKS.values())

    def rank(self, verdict: str) -> int:
        """How bad a verdict is for this rule."""
        return REMARK if self.obligation == "SHOULD" and verdict in FAILED else RANKS[verdict]


class Comparison(msgspec.Struct, frozen=True):
    """What is not as it was.

    Attributes:
        conditions: what the runs were made of and that differs: its name, the old value, the new one.
        changes: the rules whose verdict differs, by family.
        still: the rules that are broken in both.
    """

    conditions: list[tuple[str, str, str]]
    changes: list[Change]
    still: list[str]

    @property
    def got_worse(self) -> bool:
        """Whether a rule that both reports know got worse."""
        return any(change.kind == "worse" for change in self.changes)


def compare(old: Report, new: Report) -> Comparison:
    """What changed from one report to the other."""
    before, after, obligations = _verdicts(old), _verdicts(new), _obligations(old) | _obligations(new)
    pairs = [
        Change(rule, before.get(rule, ABSENT), after.get(rule, ABSENT), obligations.get(rule, "MUST"))
        for rule in sorted({*before, *after}, key=rule_order)
    ]
    still = [pair.rule for pair in pairs if pair.is_still_broken]
    return Comparison(list(differing(old, new)), [pair for pair in pairs if pair.before != pair.after], still)


def differing(old: Report, new: Report) -> Iterator[tuple[str, str, str]]:
    """What the runs were made of, where it is not the same: its name and both values, as text on one line."""
    for name in ("capabilities", "dtypes"):
        before, after = getattr(old.port, name), getattr(new.port, name)
        if set(before) != set(after):
            yield f"{name} of only one", _lacking(after, before), _lacking(before, after)
    conditions, others = _conditions(old), _conditions(new)
    for name in dict.fromkeys([*conditions, *others]):
        if conditions.get(name) != others.get(name):
            yield one_line(name), one_line(conditions.get(name, "none")), one_line(others.get(name, "none"))


def _lacking(names: Iterable[str], others: Iterable[str]) -> str:
    """What stands in `others` alone."""
    return one_line(", ".join(sorted(set(others) - set(names)))) or "none"


def _verdicts(report: Report) -> dict[str, str]:
    return {entry.id: entry.verdict for entry in report.rules} | dict.fromkeys(report.not_judged, NOT_JUDGED)


def _obligations(report: Report) -> dict[str, Obligation]:
    return {entry.id: entry.obligation for entry in report.rules}


def _conditions(report: Report) -> dict[str, object]:
    port, profile = report.port, report.profile
    asked = dict.fromkeys(OPTIONS, "any") | options(port)
    return {
        "port": port.name,
        "profile": profile.name,
        "level": report.level,
        "seed": report.seed,
        "version of detr-conformance": report.suite.version,
        **{f"{name} that may be asked for": values for name, values in asked.items()},
        "table of keys": port.keys or "that of the profile",
        **{f"version of {package}": version for package, version in port.versions.items()},
        **{f"convention {what}": how for what, how in profile.differences.items()},
        **{f"left open: {what}": ", ".join(each.rules) for what, each in profile.left_open.items()},
    }
