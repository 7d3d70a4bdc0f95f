"""The report: what a run found, in the one form that every other output is made from (`report.schema.json`)."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import msgspec

from detr_conformance import __version__
from detr_conformance.errors import visible
from detr_conformance.judgement import Judgement
from detr_conformance.properties.case_json import to_document
from detr_conformance.properties.profiles import Profile
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.run import VERDICTS, Outcome

SCHEMA_VERSION = 1
SUITE = "detr-conformance"
FRAMEWORKS = ("hypothesis", "jax", "numpy", "scipy", "tensorflow", "torch", "transformers", "ultralytics")
"""Packages whose version can change what a port returns, or which cases are drawn."""

Document = dict[str, Any]
"""A tree of dicts, lists, strings and numbers."""


class RuleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One rule in the report.

    Attributes:
        id: of the rule; `title`, `statement` and `source` likewise.
        verdict: pass, fail, error, unsupported, xfail or stale.
        message: why, for the port's maintainer; empty for a pass.
        examples: number of cases on which the rule held.
        share: largest share of an error budget that was used; None if the rule has no budget.
        case: the smallest case found that breaks the rule, as `detr_conformance.properties.case_json` writes it.
        divergence: the first step at which the numbers part on that case: `step`, `what`, `where`, `expected`, `got`,
            and `message`, all of it in a sentence.
        blocked_by: the rule whose failure explains this one.
        picture: the case as an SVG.
    """

    id: str
    verdict: str
    message: str
    title: str
    statement: str
    source: str
    examples: int
    share: float | None
    case: Document | None
    divergence: Document | None = None
    blocked_by: str | None = None
    picture: str | None = None

    @staticmethod
    def of(outcome: Outcome) -> RuleEntry:
        """The entry for an outcome."""
        rule = outcome.rule
        return RuleEntry(
            id=rule.id,
            verdict=outcome.verdict,
            message=visible(outcome.message),
            title=rule.title,
            statement=rule.statement,
            source=rule.source,
            examples=outcome.examples,
            share=outcome.share,
            case=None if outcome.case is None else to_document(outcome.case),
        )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run found.

    Attributes:
        schema_version: of this form.
        suite: name and version of the suite.
        port: name, the arguments of `check` that name it, capabilities, dtypes, and versions of the packages involved.
        profile: name, differences from the base profile, and what it leaves open with the rules about that.
        level: how many cases were drawn.
        seed: which cases were drawn.
        verdict: conformant, partial or non-conformant.
        counts: number of rules for each verdict.
        rules: the rules that were judged.
        not_judged: ids of rules that apply to the port and were not judged: deselected, or the run was interrupted.
        diagnosis: what explains the failures, or why it was not found out, if anything: `message`, `deviations` with
            `id`, `story` and `link`, and `profile`.
    """

    schema_version: int
    suite: Mapping[str, str]
    port: Document
    profile: Document
    level: str
    seed: int
    verdict: str
    counts: Mapping[str, int]
    rules: list[RuleEntry]
    not_judged: list[str]
    diagnosis: Document | None = None

    def to_json(self) -> str:
        """The report as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def compose(
    judgement: Judgement,
    entries: Iterable[RuleEntry],
    versions: Mapping[str, str],
    diagnosis: Document | None = None,
    asked: Sequence[str] = (),
) -> Report:
    """The report on the rules that were judged, in the order of the rules.

    Args:
        judgement: what was judged.
        entries: what came of the rules.
        versions: of the packages involved.
        diagnosis: what explains the failures, or why it was not found out.
        asked: the arguments of `check` that name the port.
    """
    by_id = {entry.id: entry for entry in entries}
    counts = {verdict: sum(entry.verdict == verdict for entry in by_id.values()) for verdict in VERDICTS}
    not_judged = [rule.id for rule in judgement.applicable if rule.id not in by_id]
    port = judgement.port
    return Report(
        schema_version=SCHEMA_VERSION,
        suite={"name": SUITE, "version": __version__},
        port={
            "name": visible(port.name),
            "asked": list(asked),
            "capabilities": sorted(port.capabilities),
            "dtypes": sorted(port.dtypes),
            "versions": versions,
        },
        profile=_profile(judgement.profile),
        level=judgement.level,
        seed=judgement.seed,
        verdict=overall(counts, complete=not not_judged),
        counts=counts,
        rules=[by_id[rule.id] for rule in RULES if rule.id in by_id],
        not_judged=not_judged,
        diagnosis=diagnosis,
    )


def overall(counts: Mapping[str, int], complete: bool) -> str:
    """The verdict of a run; only one that left nothing unjudged can be `conformant`."""
    if counts["fail"] or counts["error"] or counts["stale"]:
        return "non-conformant"
    return "conformant" if complete and not counts["unsupported"] and not counts["xfail"] else "partial"


def versions_for(port: str) -> dict[str, str]:
    """Versions of Python, of the frameworks that are loaded, and of the package that a port comes from."""
    versions = {"python": platform.python_version()}
    own = metadata.packages_distributions().get(port.partition(":")[0].split(".")[0], ()) if ":" in port else ()
    names = sorted({*own, *(each for each in FRAMEWORKS if each in sys.modules)})
    return versions | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"  # a package that was put on the path by hand


def _profile(profile: Profile) -> Document:
    open_rules = {what: [rule.id for rule in RULES if rule.convention == what] for what in profile.left_open}
    return {
        "name": profile.name,
        "differences": dict(profile.differences),
        "left_open": {
            what: {"reason": reason, "rules": open_rules[what]} for what, reason in profile.left_open.items()
        },
    }
