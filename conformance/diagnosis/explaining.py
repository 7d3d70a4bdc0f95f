"""Explaining a failed rule: where the numbers part on its case, and whether it fails only because another one does."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import msgspec

from detr_conformance.diagnosis.divergence import first_divergence
from detr_conformance.packets.calls import watched
from detr_conformance.packets.composing import Told
from detr_conformance.picture import picture
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortTimeout, PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import LossSpec
from detr_conformance.report import Divergence, RuleEntry

CASES_OF_A_RULE = 6
"""A rule may ask about many variations of its case; so many are looked at, the last: there it broke off."""

FAMILIES_OF = {
    "denoising": {"DN"},
    "layers": {"AUX"},
    "pairing": {"AUX"},
    "matcher": {"MATCH"},
    "matching": {"MATCH", "DN"},
    "labels": {"CLASS", "DN"},
    "score": {"CLASS"},
    "normaliser": {"CLASS", "REG"},
    "over_ranks": {"RANK"},
    "over_steps": {"RANK"},
    "recipe": {"API"},
    "class_terms": {"CLASS"},
    "class_total": {"CLASS"},
    "choose_class_term": {"CLASS"},
    "columns": {"CLASS"},
    "query_groups": {"MATCH"},
    "clear": {"AUX"},
    "target_boxes": {"REG", "MATCH"},
    "box_terms": {"BOX", "REG"},
    "matched_boxes": {"REG"},
    "guard": {"BOX"},
    "extra_terms": {"MASK", "DIST"},
    "mask_points": {"MASK"},
    "gain": {"CLASS", "REG"},
    "options": {"CLASS", "REG", "AUX"},
    "layer": {"CLASS", "REG"},
    "side_effects": {"NUM"},
    "gradients": {"GRAD"},
    "accumulated": {"GRAD"},
    "in_mode": {"API"},
    "built": {"API"},
    "keys": {"API"},
    "returned": {"API"},
}
"""The families of rules that are about a step, by how its path begins."""


def families_of(step: str) -> set[str]:
    """The families of rules that are about a step."""
    return FAMILIES_OF.get(step.partition(".")[0].partition(" ")[0], set())


def cases_asked_about(rule: Rule, port: Port, profile: LossSpec, case: LossCase) -> list[LossCase]:
    """What the rule asks the port on its case: often variations of it."""
    calls, _ = watched(rule, port, profile, case)
    return list(dict.fromkeys(each for call in calls for each in call.cases))[-CASES_OF_A_RULE:]


def divergence_of(rule: Rule, port: Port, profile: LossSpec, case: LossCase) -> Divergence | None:
    """The first step that differs, on the first of the cases that the rule asks about where one does."""
    judged, cases = PortUnderTest(port, profile), list[LossCase]()
    with suppress(PortTimeout):
        cases = cases_asked_about(rule, port, profile, case)
    for each in cases:
        with suppress(Exception, PortTimeout):  # the port gives no answer, or one that cannot be compared
            found = first_divergence(judged, each)
            if found is not None:
                return found
    return None


def explained(entry: RuleEntry, rule: Rule, port: Port, profile: LossSpec, case: LossCase) -> RuleEntry:
    """The entry of a failed rule with its divergence and a picture of its case."""
    found = divergence_of(rule, port, profile, case)
    shown: str | None = None
    with suppress(Exception, PortTimeout):  # a case that cannot be shown, such as one of NaN
        shown = picture(case, profile, port)
    return msgspec.structs.replace(entry, divergence=found, picture=shown)


def compared_with(entry: RuleEntry, account: Told | None) -> RuleEntry:
    """The entry of a failed rule, which says so if the port passes where it was asked nothing before.

    Args:
        entry: the entry.
        account: of a new process; None if it gave none.
    """
    if account is None or (account.broken and not account.earlier):
        return entry
    why = "keeps something from one call to the next" + ("" if account.broken else ", or draws at random")
    return msgspec.structs.replace(entry, message=f"{entry.message}; in a new process it passes, so the port {why}")


def with_consequences(entries: Collection[RuleEntry]) -> list[RuleEntry]:
    """The entries, those marked that fail only in consequence.

    A failed rule is blocked by another one if their numbers part at the same step, and only the other is about it. A
    SHOULD, which is about unusual numbers, explains none.
    """
    causes: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.id):
        step = _step(entry)
        if step and entry.obligation == "MUST" and entry.id.partition("-")[0] in families_of(step):
            causes.setdefault(step, entry.id)
    return [_blocked(entry, causes) for entry in entries]


def _blocked(entry: RuleEntry, causes: dict[str, str]) -> RuleEntry:
    step = _step(entry)
    if not step or step not in causes or entry.id.partition("-")[0] in families_of(step):
        return entry
    return msgspec.structs.replace(entry, blocked_by=causes[step])


def _step(entry: RuleEntry) -> str:
    return entry.divergence.step if entry.verdict == "fail" and entry.divergence else ""
