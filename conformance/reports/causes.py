"""Causes: the few things that are wrong behind all the rules that are broken.

A cause is one exception at one line of the port, one way to end the process, losses that are missing, one loss that is
off, or one step at which the numbers part. What nothing else explains is a cause of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from detr_conformance.errors import one_line
from detr_conformance.properties.case_json import CaseDocument
from detr_conformance.properties.failure_kinds import MISSING, Kind, kind_of
from detr_conformance.properties.place import Raised
from detr_conformance.report import Cause, RuleEntry
from detr_conformance.reports import facts

MOST_CAUSES = 6
"""So many are shown of a port."""
KEYS = "keys"
"""The step at which losses are missing; what is wrong with those that came is another matter."""
SHOWN_OF_A_PORT = ("losses", "gradients", "")
"""Steps that say no more than which loss it is."""
FULL_NAME = re.compile(r"\bloss_(?!gain)[a-z_]+\b")
"""A loss with what layers and denoising add to its name: if all messages are of one, that is what is off."""
NOT_TRIED = "not tried: "
ENDED = re.compile(r"(\w+\(case\): )?(the port ended the process|no answer within|the port took|out of memory)")
"""How messages begin of a port that could not be called any more."""


def causes_of(entries: Sequence[RuleEntry]) -> list[Cause]:
    """The causes behind the entries of a report that are broken, that first which explains most of them."""
    return _behind({entry.id: entry for entry in entries if entry.is_broken})


def causes_of_remarks(entries: Sequence[RuleEntry]) -> list[Cause]:
    """The same for rules that a port SHOULD keep, and does not; those that are known to be so are left out."""
    return _behind({entry.id: entry for entry in entries if entry.is_remark and entry.verdict != "xfail"})


def _behind(entries: Mapping[str, RuleEntry]) -> list[Cause]:
    by_kind: dict[Kind, list[RuleEntry]] = {}
    for entry in entries.values():
        by_kind.setdefault(_kind(entry, entries), []).append(entry)
    _give_those_not_tried_to_what_ended_the_run(by_kind)
    causes = [_cause(kind, explained) for kind, explained in by_kind.items()]
    return sorted(causes, key=lambda cause: -len(cause.rules))


def in_lines(entries: Iterable[str]) -> list[str]:
    """The same of entries as JSON text, a line for each cause, and one for those that are too many."""
    causes = causes_of([msgspec.json.decode(each, type=RuleEntry) for each in entries])
    shown = enumerate(causes[:MOST_CAUSES], start=1)
    lines = [f"{number}. {one_line(cause.summary)} ({facts.rules_of(cause)})" for number, cause in shown]
    left = len(causes) - MOST_CAUSES
    return [*lines, f"and {left} more causes"] if left > 0 else lines


def _kind(entry: RuleEntry, broken: Mapping[str, RuleEntry]) -> Kind:
    blocking, own = broken.get(entry.blocked_by or ""), kind_of(entry.message, _told(entry), entry.verdict == "fail")
    if blocking is not None and (own is None or _step(entry) != KEYS):
        return _kind(blocking, {})
    if entry.message.startswith(NOT_TRIED):
        return "message", NOT_TRIED
    step = _step(entry)
    if step not in SHOWN_OF_A_PORT and entry.verdict == "fail" and not (own and step == KEYS):
        return "step", step
    parting = "" if entry.divergence is None else entry.divergence.message
    return own or kind_of(parting, None, True) or ("rule", entry.id)


def _step(entry: RuleEntry) -> str:
    return "" if entry.divergence is None else entry.divergence.step


def _told(entry: RuleEntry) -> Raised | None:
    raised = entry.raised
    return None if raised is None else Raised(raised.type, raised.message, raised.place, raised.traceback)


def _give_those_not_tried_to_what_ended_the_run(by_kind: dict[Kind, list[RuleEntry]]) -> None:
    ending = [kind for kind in by_kind if kind[0] == "message" and ENDED.match(kind[1])]
    if ending and ("message", NOT_TRIED) in by_kind:
        most = max(ending, key=lambda kind: len(by_kind[kind]))
        by_kind[most] += by_kind.pop(("message", NOT_TRIED))


def _cause(kind: Kind, explained: Sequence[RuleEntry]) -> Cause:

    def strength(entry: RuleEntry) -> tuple[bool, bool, float]:
        """Those whose own message says so come first, then the smallest case."""
        says_so = kind_of(entry.message, _told(entry), entry.verdict == "fail") == kind
        return entry.message.startswith(NOT_TRIED), not says_so, _size(entry.case)

    shown = min(explained, key=strength)
    return Cause(summary=_summary(kind, shown, explained), rules=[entry.id for entry in explained], shown_by=shown.id)


def _size(case: CaseDocument | None) -> float:
    """Numbers in the predicted logits, which is what there is to look at; a report may hold anything instead."""
    scores = None if case is None else case.get("pred_scores")
    values = scores.get("values") if isinstance(scores, dict) else None
    return float(len(values)) if isinstance(values, list) else math.inf


def _summary(kind: Kind, shown: RuleEntry, explained: Sequence[RuleEntry]) -> str:
    if kind[0] == "exception" and shown.raised is not None:
        where = "" if shown.raised.place is None else f", at {shown.raised.place}"
        return f"{shown.raised.type}: {shown.raised.message}{where}"
    if kind[0] == "missing":
        missing = (entry.message.partition(MISSING)[2].partition(";")[0] for entry in explained)
        names = dict.fromkeys(name for each in missing for name in each.split(", "))
        return f"the port does not return {', '.join(names)}"
    if kind[0] == "loss":
        full = {name for entry in explained for name in FULL_NAME.findall(entry.message)}
        name = min(full) if len(full) == 1 else kind[1]
        gradients_alone = all("gradient" in entry.message for entry in explained)
        return f"the gradients of {name} are off" if gradients_alone else f"{name} is off"
    if kind[0] == "step" and shown.divergence is not None:
        return shown.divergence.message
    return shown.message or shown.title
