"""The form of a report as `report.schema.json` states it, in types that a file is checked against when it is read."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from detr_conformance.report import Document

Count = Annotated[int, msgspec.Meta(ge=0)]
RuleId = Annotated[str, msgspec.Meta(pattern="^[A-Z]+-[0-9]+$", max_length=40)]
Word = Literal["pass", "fail", "error", "unsupported", "xfail", "stale"]


class Suite(msgspec.Struct):
    """Name and version of the suite."""

    name: Literal["detr-conformance"]
    version: str


class Port(msgspec.Struct):
    """What was judged."""

    name: str
    capabilities: list[str]
    dtypes: list[str]
    versions: dict[str, str]
    asked: list[str] = []


class LeftOpen(msgspec.Struct):
    """Something that a profile does not define."""

    reason: str
    rules: list[RuleId]


class Profile(msgspec.Struct):
    """The conventions that the port was held to."""

    name: str
    differences: dict[str, str]
    left_open: dict[str, LeftOpen]


class Rule(msgspec.Struct):
    """What came of a rule."""

    id: RuleId
    verdict: Word
    message: str
    title: str
    statement: str
    source: str
    examples: Count
    share: Annotated[float, msgspec.Meta(ge=0)] | None
    case: Document | None


class Form(msgspec.Struct):
    """A whole report."""

    schema_version: Literal[1]
    suite: Suite
    port: Port
    profile: Profile
    level: Literal["smoke", "standard", "exhaustive"]
    seed: Count
    verdict: Literal["conformant", "partial", "non-conformant"]
    counts: dict[Word, Count]
    rules: list[Rule]
    not_judged: list[RuleId]
    diagnosis: Document | None
