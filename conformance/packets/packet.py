"""Packets: a failure in one file, with the case, what was expected and what came, to be looked at without this suite.

Beside each lies a script of a few lines that asks the port again (`script`). `detr-conformance replay` judges
by the rule once more, whatever version of Hypothesis is installed: a packet holds the case itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from detr_conformance import __version__
from detr_conformance.errors import UsageError, one_line, visible
from detr_conformance.packets.calls import Call, Watching, watched
from detr_conformance.packets.groups import group_lines
from detr_conformance.packets.indices import matching_lines, pairing_lines
from detr_conformance.packets.lines import Line, read_as, telling, text
from detr_conformance.packets.losses import Result, loss_lines
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseFormatError, from_document, to_document
from detr_conformance.properties.judged import Judged, PortError
from detr_conformance.properties.port import Port
from detr_conformance.properties.profiles import Profile
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.run import Outcome

FORMAT = "detr-conformance packet"
VERSION = 1
MOST_CALLS = 4
"""So many calls before the one that shows the failure are kept: any of them may have led to it."""
INTERFACE_FIRST = ("raised", "type", "keys", "shape", "list")
NUMBERS_FIRST = ("raised", "type", "number", "gradient", "cost", "pairs")

Document = dict[str, Any]


class PacketPort(msgspec.Struct, frozen=True, kw_only=True):
    """Where a port comes from.

    Attributes:
        name: what the report calls it.
        spec: a built-in name, or `package.module:attribute`.
        adapter: `ultralytics` if the attribute is a loss class.
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
    """

    method: str
    cases: list[Document]
    options: Document | None
    lines: list[Line]


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
    """

    format: str
    schema_version: int
    suite: Document
    versions: Mapping[str, str]
    port: PacketPort
    profile: str
    rule: PacketRule
    verdict: str
    message: str
    case: Document
    reading: str | None
    shown: bool
    calls: list[PacketCall]
    calls_left_out: int

    def to_json(self) -> str:
        """The packet as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def compose(outcome: Outcome, port: Port, profile: Profile, source: PacketPort, versions: Mapping[str, str]) -> Packet:
    """The packet of an outcome with a case: the rule is asked once more, and what goes on is taken down.

    Args:
        outcome: a failure.
        port: the port.
        profile: the conventions that it is held to.
        source: where the port comes from.
        versions: of Python and of the packages involved, as in the report.
    """
    assert outcome.case is not None  # noqa: S101  # callers have looked
    rule = outcome.rule
    kept, left_out, reading, shown = told(rule, port, profile, outcome.case)
    return Packet(
        format=FORMAT,
        schema_version=VERSION,
        suite={"name": "detr-conformance", "version": __version__},
        versions=dict(versions),
        port=source,
        profile=profile.name,
        rule=PacketRule(id=rule.id, title=rule.title, statement=rule.statement, source=rule.source),
        verdict=outcome.verdict,
        message=visible(outcome.message),
        case=to_document(outcome.case),
        reading=reading,
        shown=shown,
        calls=kept,
        calls_left_out=left_out,
    )


class Told(NamedTuple):
    """What a packet says of the calls that a rule has made.

    Attributes:
        calls: those that tell what is wrong.
        left_out: the number of the others.
        reading: how their lines are read; None if there is nothing to read.
        shown: whether they show what is wrong.
    """

    calls: list[PacketCall]
    left_out: int
    reading: str | None
    shown: bool


def told(rule: Rule, port: Port, profile: Profile, case: LossCase) -> Told:
    """Ask the port what the rule asks it about the case, and keep what tells most.

    All calls that are kept are of one method, and all lines are read in one way, so that a script of a few lines can
    show them. They lead up to the first call in which something is off.
    """
    calls, judged = watched(rule, port, profile, case)
    preferred = INTERFACE_FIRST if rule.family == "API" else NUMBERS_FIRST
    of_calls = [lines_of(call, judged) for call in calls]
    readings = [telling(lines, preferred) for lines in of_calls]
    if not any(readings):
        of_calls = _as_the_rule(calls, of_calls, judged)
        readings = [telling(lines, preferred) for lines in of_calls]
    for place, reading in enumerate(readings):
        if reading is not None:
            same = [each for each in range(place) if calls[each].method == calls[place].method]
            kept = [*same[-MOST_CALLS:], place]
            packed = [_packed(calls[each], read_as(of_calls[each], reading)) for each in kept]
            return Told(packed, len(calls) - len(packed), reading, shown=True)
    return _as_recorded(calls, of_calls)


def _as_the_rule(calls: Sequence[Call], of_calls: list[list[Line]], judged: Watching) -> list[list[Line]]:
    """Where the reference has no single answer to a call, but the rule has one: that."""
    for place, call in enumerate(calls):
        if call.method == "loss" and call.raised is None and judged.failed is not None:
            with suppress(TypeError, ValueError, PortError):
                lines = Result(call.answer, call.cases[0], judged, []).as_the_rule(*judged.failed)
                if lines:
                    return [*of_calls[:place], lines, *of_calls[place + 1 :]]
    return of_calls


def _as_recorded(calls: Sequence[Call], of_calls: Sequence[list[Line]]) -> Told:
    """The first calls, where no line says what is wrong."""
    for place, lines in enumerate(of_calls):
        readings = [each.reading for each in lines]
        for reading in ("number", "pairs", "cost", "type"):
            if reading in readings:
                method = calls[place].method
                same = [each for each, call in enumerate(calls) if call.method == method][:MOST_CALLS]
                own = {each: [line.recorded() for line in of_calls[each] if line.reading == reading] for each in same}
                packed = [_packed(calls[each], own[each]) for each in same]
                return Told(packed, len(calls) - len(packed), reading, shown=False)
    return Told([], len(calls), None, shown=False)


def lines_of(call: Call, judged: Judged) -> list[Line]:
    """What can be told of one call."""
    if call.raised is not None:
        return [text("raised", "the call", [], call.raised, "an answer")]
    lines = [text(_reader(name), name, [], "changed", "as before") for name in call.touched if _reader(name)]
    first = call.cases[0]
    if call.method == "match":
        return [*lines, *matching_lines(call.answer, first, judged)]
    if call.method == "denoising_indices":
        return [*lines, *pairing_lines(call.answer, first)]
    if call.method == "denoising_group":
        return [*lines, *group_lines(call.answer, first, judged)]
    return [*lines, *loss_lines(call.answer, call.cases, judged, call.asked)]


def _reader(of_the_world: str) -> str:
    """How a script sees that a global thing has changed; empty for what it cannot see."""
    return {"NumPy's global random generator": "numpy", "PyTorch's global random generator": "torch"}.get(
        of_the_world, ""
    )


def _packed(call: Call, lines: Iterable[Line]) -> PacketCall:
    return PacketCall(
        method=call.method,
        cases=[to_document(case) for case in call.cases],
        options=asdict(call.cases[0].config) if call.cases else None,
        lines=list(lines),
    )


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
        return packet, from_document(packet.case)
    except (msgspec.MsgspecError, CaseFormatError, RecursionError) as error:
        raise UsageError(f"not a packet ({one_line(error)})") from error
