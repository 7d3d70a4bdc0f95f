"""What identification found out, as the structs that `identify --json` writes."""

from __future__ import annotations

from typing import Literal

import msgspec

from detr_conformance.report import Suite

Told = Literal["found", "several", "none fits", "not asked"]
"""One alternative is left; several are; all are ruled out, and the nearest is named; the port gave no answer."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One way to take a decision.

    Attributes:
        sentence: what is decided.
        source: the Python expression that makes it.
        link: code that does it, or the paper; empty for the base.
    """

    sentence: str
    source: str
    link: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a port decides in one field of a spec.

    Attributes:
        field: path of the field.
        told: how well it is known.
        options: what is left of the alternatives, that of the nearest spec first.
        evidence: what was looked at, and how far off the rest is; or why nothing was.
        differs: whether the nearest spec decides otherwise.
    """

    field: str
    told: Told
    options: list[Option]
    evidence: str
    differs: bool = False


class Identification(msgspec.Struct, frozen=True, kw_only=True):
    """Which convention a port follows.

    Attributes:
        suite: that asked.
        port: name of the port.
        nearest: the nearest members of the family; several if no answer tells them apart.
        is_exact: whether the first of them explains every answer.
        findings: field by field.
        unexplained: answers that the spec below does not explain.
        refusals: calls that gave no answer, each with the reason.
        not_asked: what the port does not declare, or restricts, so that nothing can be said about it.
        spec: a Python module that makes the spec, as `SPEC`.
    """

    suite: Suite
    port: str
    nearest: list[str]
    is_exact: bool
    findings: list[Finding]
    unexplained: list[str]
    refusals: list[str]
    not_asked: list[str]
    spec: str

    @property
    def differences(self) -> list[Finding]:
        """The fields in which the port differs from the nearest spec."""
        return [each for each in self.findings if each.differs]

    @property
    def unknown(self) -> list[Finding]:
        """The fields in which the port does something that no member of the family is known to do."""
        return [each for each in self.findings if each.told == "none fits" and not self.is_exact]

    @property
    def untold(self) -> list[Finding]:
        """The fields of which it could not be told what the port does."""
        return [each for each in self.findings if each.told in ("several", "not asked")]

    def to_json(self) -> str:
        """As JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"
