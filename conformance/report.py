"""The report: what a run found, in the one form that every other output is made from.

Structs and nothing else. `reports.composing` makes them of a run and `reports.reading` of a file; `report.schema.json`
is generated from them, so an attribute is described here and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from detr_conformance.properties.case_json import CaseDocument
from detr_conformance.properties.levels import Level
from detr_conformance.properties.verdict_words import Obligation, Overall, Verdict

SCHEMA_VERSION = 1
FAILED = ("fail", "error")
"""Verdicts of a rule that does not hold."""

Count = Annotated[int, msgspec.Meta(ge=0)]
RuleId = Annotated[str, msgspec.Meta(pattern="^[A-Z]+-[0-9]+$", max_length=40)]


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """The suite that judged.

    Attributes:
        name: of the suite.
        version: of the suite.
    """

    name: Literal["detr-conformance"]
    version: str


class PortFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was judged.

    Attributes:
        name: of the port.
        capabilities: what it declares.
        dtypes: in which it takes predictions.
        options: for each option that it restricts the values that it may be asked for, gains by term.
        keys: class of its own table of keys; null where its losses go by the names of the profile.
        versions: of Python, and of each package that can change what the port returns or which cases are drawn.
        asked: the arguments of `check` that name the port; empty where it was judged in a test suite of its own.
    """

    name: str
    capabilities: list[str]
    dtypes: Annotated[list[str], msgspec.Meta(min_length=1)]
    options: dict[str, list[float | dict[str, float]]] = {}
    keys: str | None = None
    versions: dict[str, str]
    asked: list[str] = []


class LeftOpen(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a profile does not define.

    Attributes:
        reason: why it does not.
        rules: those that are not asked therefore.
    """

    reason: str
    rules: list[RuleId]


class ProfileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The conventions that the port was held to.

    Attributes:
        name: of the profile.
        differences: from the base profile, by a short name.
        left_open: what the profile does not define, by a short name.
    """

    name: str
    differences: dict[str, str]
    left_open: dict[str, LeftOpen]


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Where the port's numbers first part from the reference's.

    Attributes:
        step: of the loss.
        what: which call of the step, and which of its arrays.
        where: index of the worst entry; empty for a single number.
        expected: the number there, or what was expected in words.
        got: the port's.
        message: all of it in a sentence.
    """

    step: str
    what: str
    where: list[int]
    expected: str
    got: str
    message: str


class KnownMistake(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake of the museum.

    Attributes:
        id: of the mistake.
        story: what goes wrong.
        link: where it was found.
    """

    id: str
    story: str
    link: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What the failures have in common.

    Attributes:
        message: what explains them, or why that was not found out.
        profile: whose conventions the port follows instead, if it does.
        deviations: the mistakes that the port behaves like.
    """

    message: str
    profile: str | None = None
    deviations: list[KnownMistake] = []


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An exception of the port.

    Attributes:
        type: name of its class.
        message: its own.
        place: the last line in the port's own files: file, line and function; null if there is none.
        traceback: the lines that led there, from the port's first on.
    """

    type: str
    message: str
    place: str | None
    traceback: str


class RuleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one rule.

    Attributes:
        id: of the rule.
        verdict: what came of it.
        message: why, for the port's maintainer; empty for a pass.
        obligation: whether the run can be conformant without it.
        obligation_reason: why the rule is a SHOULD; null for a MUST.
        title: of the rule.
        statement: the normative sentence.
        source: where it is said.
        examples: number of cases on which the rule held.
        share: largest share of an error budget that was used; null where there is no budget.
        case: the smallest case found that breaks the rule, with floats as hexadecimal strings.
        divergence: the first step at which the numbers part on that case, if one does.
        raised: what the port raised, if that is why.
        blocked_by: the rule whose failure explains this one.
        picture: the case as an SVG.
    """

    id: RuleId
    verdict: Verdict
    message: str
    obligation: Obligation
    obligation_reason: str | None
    title: str
    statement: str
    source: str
    examples: Count
    share: Annotated[float, msgspec.Meta(ge=0)] | None
    case: CaseDocument | None
    divergence: Divergence | None = None
    raised: Raised | None = None
    blocked_by: RuleId | None = None
    picture: str | None = None

    def in_short(self) -> str:
        """As JSON text, without what is large."""
        raised = None if self.raised is None else msgspec.structs.replace(self.raised, traceback="")
        return msgspec.json.encode(msgspec.structs.replace(self, case=None, picture=None, raised=raised)).decode()

    @property
    def is_broken(self) -> bool:
        """Whether no run with it is conformant: a MUST that does not hold, or an entry of a list that has to go."""
        return self.verdict == "stale" or (self.obligation == "MUST" and self.verdict in FAILED)

    @property
    def is_remark(self) -> bool:
        """Whether it is a SHOULD that does not hold, be that known or not."""
        return self.obligation == "SHOULD" and self.verdict in (*FAILED, "xfail")

    @property
    def is_missing(self) -> bool:
        """Whether a run with it is at best partial: a MUST that was not judged, or is excused."""
        return self.obligation == "MUST" and self.verdict in ("unsupported", "xfail")


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and the rules that are broken by it.

    Attributes:
        summary: what it is, in a line.
        rules: those that it explains, in their order.
        shown_by: the one of them that shows it on the smallest case.
    """

    summary: str
    rules: Annotated[list[RuleId], msgspec.Meta(min_length=1)]
    shown_by: RuleId


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename={"passed": "pass"}):
    """Number of rules for each verdict.

    Attributes:
        passed: the rule held on every case drawn.
        fail: the port answered, and the answer breaks the rule.
        error: the port gave no answer, or did harm besides.
        unsupported: the port does not declare what the rule needs.
        xfail: the rule fails, and is listed as known.
        stale: the rule is listed as known, and holds.
    """

    passed: Count
    fail: Count
    error: Count
    unsupported: Count
    xfail: Count
    stale: Count

    def by_verdict(self) -> dict[str, int]:
        """The numbers by the words."""
        return msgspec.convert(msgspec.to_builtins(self), dict[str, int])


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run found.

    Attributes:
        schema_version: of this form.
        suite: by which it was judged.
        port: what was judged.
        profile: what it was held to.
        level: how many cases were drawn.
        seed: which cases were drawn.
        verdict: of the run.
        counts: number of rules for each verdict.
        causes: what is wrong, that first which explains most; empty where nothing is, and in older reports.
        rules: those that were judged.
        not_judged: rules that apply to the port and were not judged: deselected, unfit for the case, or not reached.
        diagnosis: what explains the failures, or why that was not found out; null where nothing explains them.
    """

    schema_version: Literal[1]
    suite: Suite
    port: PortFacts
    profile: ProfileFacts
    level: Level
    seed: Count
    verdict: Overall
    counts: Counts
    rules: list[RuleEntry]
    not_judged: list[RuleId]
    diagnosis: Diagnosis | None
    causes: list[Cause] = []

    def to_json(self) -> str:
        """The report as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"
