"""A report made of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detr_conformance import __version__
from detr_conformance.check_plan import CheckPlan
from detr_conformance.errors import visible
from detr_conformance.properties.case_json import to_document
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.place import Raised as OfPort
from detr_conformance.properties.port import Port, keys_of, options_of
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import LossSpec
from detr_conformance.reference.keys import TERMS
from detr_conformance.report import Diagnosis, LeftOpen, PortFacts, ProfileFacts, Raised, Report, RuleEntry, Suite
from detr_conformance.reports.causes import causes_of
from detr_conformance.reports.verdict import counts_of, overall


def entry_of(outcome: RuleResult) -> RuleEntry:
    """The entry for an outcome."""
    rule = outcome.rule
    return RuleEntry(
        id=rule.id,
        verdict=outcome.verdict,
        message=visible(outcome.message),
        obligation=rule.obligation,
        obligation_reason=rule.reason,
        title=rule.title,
        statement=rule.statement,
        source=rule.source,
        examples=outcome.examples,
        share=outcome.share,
        case=None if outcome.case is None else to_document(outcome.case),
        raised=None if outcome.raised is None else _raised(outcome.raised),
    )


def _raised(raised: OfPort) -> Raised:
    return Raised(
        type=visible(raised.type),
        message=visible(raised.message),
        place=None if raised.place is None else visible(raised.place),
        traceback=visible(raised.traceback),
    )


def compose(
    judgement: CheckPlan,
    entries: Iterable[RuleEntry],
    versions: dict[str, str],
    diagnosis: Diagnosis | None = None,
    asked: Sequence[str] = (),
) -> Report:
    """The report on the rules that were judged, in the order of the rules.

    Args:
        judgement: what was judged.
        entries: what came of the rules.
        versions: of the packages involved.
        diagnosis: what explains the failures, or why that was not found out.
        asked: the arguments of `check` that name the port.
    """
    by_id = {entry.id: entry for entry in entries}
    rules = [by_id[rule.id] for rule in RULES if rule.id in by_id]
    not_judged = [rule.id for rule in judgement.applicable if rule.id not in by_id]
    return Report(
        schema_version=1,
        suite=Suite(name="detr-conformance", version=__version__),
        port=port_facts(judgement.port, versions, asked),
        profile=_profile(judgement.profile),
        level=judgement.level,
        seed=judgement.seed,
        verdict=overall(rules, complete=not not_judged),
        counts=counts_of(rules),
        rules=rules,
        not_judged=not_judged,
        diagnosis=diagnosis,
        causes=causes_of(rules),
    )


def port_facts(port: Port, versions: dict[str, str], asked: Sequence[str] = ()) -> PortFacts:
    """What a port declares, and where it comes from."""
    keys = keys_of(port)
    return PortFacts(
        name=visible(port.name),
        capabilities=sorted(port.capabilities),
        dtypes=sorted(port.dtypes),
        options={name: [_value(value) for value in values] for name, values in sorted(options_of(port).items())},
        keys=None if keys is None else type(keys).__name__,
        versions=versions,
        asked=list(asked),
    )


def _value(value: Any) -> float | dict[str, float]:  # noqa: ANN401  # a number of any type, or gains
    """A value of an option: a number, or the gains that a loss reads."""
    return {term: float(value[term]) for term in TERMS} if isinstance(value, Mapping) else float(value)


def _profile(profile: LossSpec) -> ProfileFacts:
    left_open = {
        what: LeftOpen(reason=reason, rules=[rule.id for rule in RULES if rule.convention == what])
        for what, reason in profile.undefined.items()
    }
    return ProfileFacts(
        name=profile.name,
        differences={path: each.sentence for path, each in profile.differences.items()},
        left_open=left_open,
    )
