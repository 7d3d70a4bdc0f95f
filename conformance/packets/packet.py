"""Packets: a failure in one file, with the case, what was expected and what came, to be looked at without this suite.

Beside each lies a script of a few lines that asks the port again (`script`). `detr-conformance replay` judges
by the rule once more, whatever version of Hypothesis is installed: a packet holds the case itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from detr_conformance.errors import UsageError, one_line
from detr_conformance.packets.lines import Line
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseDocument, CaseFormatError, from_document
from detr_conformance.report import Suite

FORMAT = "detr-conformance packet"
VERSION = 1


class PacketPort(msgspec.Struct, frozen=True, kw_only=True):
    """Where a port comes from.

    Attributes:
        name: what the report calls it.
        spec: a built-in name, `package.module:attribute`, or a command.
        adapter: `ultralytics` if the attribute is a loss class, `command` if it is a command.
        denoising: generator of denoising queries beside that class.
    """

    name: str
    spec: str
    adapter: str | None = None
    denoising: str | None = None


class PacketRule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that a port breaks."""

    id: str
    title: str
    statement: str
    source: str


class PacketCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the port.

    Attributes:
        method: of the port.
        cases: what it is called with, as `detr_conformance.properties.case_json` writes it.
        options: constructor arguments of a loss class, if there is one.
        lines: what came, beside what was expected.
        more: what else it is called with.
    """

    method: str
    cases: list[CaseDocument]
    options: dict[str, Any] | None
    lines: list[Line]
    more: list[Any] = []


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One failure.

    Attributes:
        format: says that this is a packet.
        schema_version: of this form.
        suite: name and version of the suite.
        versions: of Python and of the packages that can change what the port returns.
        port: the port.
        profile: the conventions that it was held to.
        rule: the rule.
        verdict: fail or error.
        message: why.
        case: the case that breaks the rule.
        reading: how lines are read; None if no call of the port could be kept.
        shown: whether lines differ from what is expected. Otherwise they are what the port answered when the rule
            failed, and only the message says what is wrong with it.
        calls: those calls that lead up to the failure. Rules make them of the case.
        calls_left_out: how many others the rule made.
        again: whether what is wrong is that two equal calls had different answers.
        earlier: cases whose loss is asked for first. A port that keeps something from one call to the next does
            nothing wrong without them.
    """

    format: str
    schema_version: int
    suite: Suite
    versions: Mapping[str, str]
    port: PacketPort
    profile: str
    rule: PacketRule
    verdict: str
    message: str
    case: CaseDocument
    reading: str | None
    shown: bool
    calls: list[PacketCall]
    calls_left_out: int
    again: bool = False
    earlier: list[CaseDocument] = msgspec.field(default_factory=list)

    def to_json(self) -> str:
        """The packet as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def read(text: str) -> tuple[Packet, LossCase]:
    """A packet, and its case, from JSON text.

    Raises:
        UsageError: it is none, or another release wrote it.
    """
    try:
        head = msgspec.json.decode(text)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise UsageError(f'not a packet: expected a JSON object with "format": "{FORMAT}"')
        if head.get("schema_version") != VERSION:
            raise UsageError(f"a packet of version {head.get('schema_version')!r}, but this release reads {VERSION}")
        packet = msgspec.convert(head, Packet)
        for each in packet.earlier:
            from_document(each)
        return packet, from_document(packet.case)
    except (msgspec.MsgspecError, CaseFormatError, RecursionError) as error:
        raise UsageError(f"not a packet ({one_line(error)})") from error
