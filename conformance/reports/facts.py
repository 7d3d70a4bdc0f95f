"""What a report says, ready to be shown: the one place where every form gets its words from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from detr_conformance.properties.rule import FAMILIES
from detr_conformance.properties.rules import RULES
from detr_conformance.report import Cause, Divergence, KnownMistake, PortFacts, Report, RuleEntry
from detr_conformance.reports.packet import sizes

MEANING = {
    "conformant": "Every rule that applies to this port was judged, and holds.",
    "partial": "No rule that a port MUST keep is broken, but not all could be judged: what is missing is listed below.",
    "non-conformant": "At least one rule is broken: each is explained below.",
}
REMARKED = "Every rule that a port MUST keep was judged, and holds. Those that it SHOULD keep and does not are remarks."
"""What `conformant` means where a SHOULD does not hold, or could not be judged."""
EXIT_STATUS = {"conformant": 0, "partial": 0, "non-conformant": 1}
TITLES = {rule.id: rule.title for rule in RULES}
STALE = "the rule is on the list of known deviations and holds: take it off the list"
NOT_JUDGED = "not judged"
MOST_RULES = 5
"""Of a cause the ids of so many rules are shown."""
MANY = 10
"""So many broken rules without an explanation may come from another convention."""


def broken(report: Report) -> list[RuleEntry]:
    """The rules that make the run non-conformant; those that only follow from another one come last."""
    return sorted((entry for entry in report.rules if entry.is_broken), key=lambda entry: bool(entry.blocked_by))


def remarks(report: Report) -> list[RuleEntry]:
    """The rules that a port SHOULD keep, and this one does not."""
    return [entry for entry in report.rules if entry.is_remark]


def about(cause: Cause, shown: RuleEntry) -> list[str]:
    """The rules that a cause explains, and what the smallest case shows, as far as the summary does not say it."""
    said = "" if shown.raised is not None or cause.summary == shown.message else f": {shown.message}"
    case = sizes(shown)
    where = f" ({case})" if case else ""
    what = "smallest case" if case else "seen by"
    return [rules_of(cause), f"{what}: {shown.id} {shown.title}{where}{said}"]


def rules_of(cause: Cause) -> str:
    """How many rules a cause explains, and the first of them."""
    return f"{len(cause.rules)} rule{'' if len(cause.rules) == 1 else 's'}: {some(cause.rules)}"


def some(rules: Sequence[str]) -> str:
    """The first of these ids, and how many more there are."""
    more = f" and {len(rules) - MOST_RULES} more" if len(rules) > MOST_RULES else ""
    return f"{', '.join(rules[:MOST_RULES])}{more}"


def remarked(report: Report) -> str:
    """The number of remarks, to stand after a verdict; empty if there is none."""
    number = len(remarks(report))
    return f", {number} remark{'' if number == 1 else 's'}" if number else ""


def meaning(report: Report) -> str:
    """What the verdict means."""
    passed = report.counts.passed == len(report.rules)
    return MEANING[report.verdict] if passed or report.verdict != "conformant" else REMARKED


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


def obligation(entry: RuleEntry) -> str:
    """Why a rule is a SHOULD; empty for a MUST."""
    return "" if entry.obligation == "MUST" else f"SHOULD, not MUST: {entry.obligation_reason}"


def options(port: PortFacts) -> dict[str, str]:
    """For each option that the port restricts the values that it may be asked for."""
    return {name: " or ".join(map(_value, values)) for name, values in port.options.items()}


def _value(value: float | dict[str, float]) -> str:
    return ", ".join(f"{term} {gain}" for term, gain in value.items()) if isinstance(value, dict) else str(value)


def restrictions(port: PortFacts) -> str:
    """The options that the port restricts, and its own keys; empty where there are neither."""
    said = [f"{name} only {values}" for name, values in options(port).items()]
    return "; ".join([*said, f"keys of its own, {port.keys}"] if port.keys else said)


def place(divergence: Divergence) -> str:
    """Where the numbers part: an array, and an index in it."""
    return f"{divergence.what}{divergence.where or ''}"


def hint(report: Report) -> str:
    """What to run where the port may follow another convention; empty elsewhere."""
    found = report.diagnosis
    follows_another = found is not None and found.profile is not None
    wrong = [entry for entry in broken(report) if entry.verdict == "fail"]
    is_a_riddle = MANY <= len(wrong) == len(broken(report)) and not (found is not None and found.deviations)
    if not report.port.asked or not (follows_another or is_a_riddle):
        return ""
    return (
        f"detr-conformance identify {shlex.join(_without_profile(report.port.asked))} says which convention it follows"
    )


def _without_profile(asked: list[str]) -> list[str]:
    """The arguments that name a port, without the profile that it was held to."""
    place = asked.index("--profile") if "--profile" in asked else len(asked)
    return [*asked[:place], *asked[place + 2 :]]


def web_address(mistake: KnownMistake) -> str:
    """Where a mistake was found; empty if that is no web address."""
    link = mistake.link
    is_one = re.fullmatch(r"https?://[^\s\"'`<>\\]{1,300}", link) is not None and link.isprintable()
    return link if is_one else ""


def counted(report: Report) -> list[tuple[str, int]]:
    """How many rules have each verdict, those that were not judged among them, without the zeros."""
    numbers = {**report.counts.by_verdict(), NOT_JUDGED: len(report.not_judged)}
    return [(word, number) for word, number in numbers.items() if number]


def total(report: Report) -> int:
    """Number of rules that apply to the port."""
    return len(report.rules) + len(report.not_judged)


def share(entry: RuleEntry) -> str:
    """The share of the budget that was used, as a percentage; empty if there is none."""
    return "" if entry.share is None or entry.verdict == "unsupported" else f"{entry.share:.1%}"


def cases(entry: RuleEntry) -> str:
    """The number of cases; empty for a rule that was not tried."""
    return "" if entry.verdict == "unsupported" else f"{entry.examples:,}"
