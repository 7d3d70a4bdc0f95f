"""A packet made of a failure: the rule is checked once more, and those of its calls are kept that show most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import combinations
from typing import NamedTuple

import msgspec

from detr_conformance import __version__
from detr_conformance.errors import visible
from detr_conformance.packets.calls import Call, Watching, watched
from detr_conformance.packets.groups import group_lines
from detr_conformance.packets.indices import matching_lines, pairing_lines
from detr_conformance.packets.lines import Line, read_as, telling, text
from detr_conformance.packets.losses import (
    Result,
    accumulated_lines,
    default_lines,
    expected_losses,
    loss_lines,
    point_count_lines,
)
from detr_conformance.packets.packet import FORMAT, VERSION, Packet, PacketCall, PacketPort, PacketRule
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseDocument, to_document
from detr_conformance.properties.global_state import GENERATOR
from detr_conformance.properties.judging import RuleResult, ask_first
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import LossSpec
from detr_conformance.report import Suite

MOST_CALLS = 4
"""So many calls before the one that shows the failure are kept: any of them may have led to it."""
INTERFACE_FIRST = ("raised", "type", "keys", "shape", "list")
ASKED = ("method", "cases", "more")
"""What makes two calls equal."""
RECORDED = ("number", "pairs", "cost", "type")
"""Readings to keep of calls in which nothing is wrong."""
NUMBERS_FIRST = ("raised", "type", "number", "gradient", "accumulated", "cost", "pairs")


def compose(
    outcome: RuleResult, case: LossCase, account: Told, profile: str, source: PacketPort, versions: Mapping[str, str]
) -> Packet:
    """The packet of an outcome.

    Args:
        outcome: a failure.
        case: its case.
        account: of what the rule asks about that case, and what the port answers.
        profile: name of the conventions that the port is held to.
        source: where the port comes from.
        versions: of Python and of the packages involved, as in the report.
    """
    rule = outcome.rule
    return Packet(
        format=FORMAT,
        schema_version=VERSION,
        suite=Suite(name="detr-conformance", version=__version__),
        versions=dict(versions),
        port=source,
        profile=profile,
        rule=PacketRule(id=rule.id, title=rule.title, statement=rule.statement, source=rule.source),
        verdict=outcome.verdict,
        message=visible(outcome.message),
        case=to_document(case),
        reading=account.reading,
        shown=account.shown,
        calls=account.calls,
        calls_left_out=account.left_out,
        again=account.again,
        earlier=account.earlier,
    )


class Told(msgspec.Struct, frozen=True):
    """What a packet says of the calls that a rule has made.

    Attributes:
        calls: those that tell what is wrong.
        left_out: the number of the others.
        reading: how their lines are read; None if there is nothing to read.
        shown: whether they show what is wrong.
        again: whether what is wrong is that two equal calls had different answers.
        broken: whether the port broke the rule.
        earlier: cases whose loss was asked for first.
    """

    calls: list[PacketCall]
    left_out: int
    reading: str | None
    shown: bool
    again: bool
    broken: bool
    earlier: list[CaseDocument]


def told(rule: Rule, port: Port, profile: LossSpec, case: LossCase, earlier: Sequence[LossCase] = ()) -> Told:
    """Check the rule on the case once more, and keep the calls that show most.

    All calls that are kept are of one method, and all lines are read in one way, so that a script of a few lines can
    show them. They lead up to the first call in which something is wrong.

    Args:
        rule: the rule.
        port: the port.
        profile: the conventions that it is held to.
        case: what the rule asks about.
        earlier: cases whose loss is asked for first.
    """
    ask_first(port, earlier)
    calls, judged = watched(rule, port, profile, case)
    kept = _kept(calls, judged, INTERFACE_FIRST if rule.family == "API" else NUMBERS_FIRST)
    return Told(
        calls=kept.calls,
        left_out=len(calls) - len(kept.calls),
        reading=kept.reading,
        shown=kept.shown,
        again=kept.again,
        broken=judged.broken,
        earlier=[to_document(each) for each in earlier],
    )


class _Kept(NamedTuple):
    """What is kept of the calls."""

    calls: list[PacketCall]
    reading: str | None = None
    shown: bool = False
    again: bool = False


def _kept(calls: Sequence[Call], judged: Watching, preferred: Sequence[str]) -> _Kept:
    """The calls that show most."""
    of_calls = [lines_of(call, judged) for call in calls]
    readings = [telling(lines, preferred) for lines in of_calls]
    if not any(readings):
        of_calls = _as_the_rule(calls, of_calls, judged)
        readings = [telling(lines, preferred) for lines in of_calls]
    for place, reading in enumerate(readings):
        if reading is not None:
            same = [each for each in range(place) if calls[each].method == calls[place].method]
            kept = [*same[-MOST_CALLS:], place]
            return _Kept([_packed(calls[each], read_as(of_calls[each], reading)) for each in kept], reading, shown=True)
    return _two_answers(calls, of_calls) or _as_recorded(calls, of_calls)


def _as_the_rule(calls: Sequence[Call], of_calls: list[list[Line]], judged: Watching) -> list[list[Line]]:
    """The lines, with the rule's own expectation for a call to which the reference has no single answer."""
    for place, call in enumerate(calls):
        if call.method == "loss" and call.raised is None and judged.failed is not None:
            with suppress(TypeError, ValueError, PortError):
                expected = expected_losses(call.cases[0], judged)
                lines = Result(call.answer, call.cases[0], judged, [], expected).as_the_rule(*judged.failed)
                if lines:
                    return [*of_calls[:place], lines, *of_calls[place + 1 :]]
    return of_calls


def _two_answers(calls: Sequence[Call], of_calls: Sequence[list[Line]]) -> _Kept | None:
    """Two equal calls with different answers."""
    for one, other in combinations(range(len(calls)), 2):
        if all(getattr(calls[one], name) == getattr(calls[other], name) for name in ASKED):
            for reading in RECORDED:
                lines = [_recorded(of_calls[each], reading) for each in (one, other)]
                if lines[0] != lines[1]:
                    return _Kept([_packed(calls[one], each) for each in lines], reading, again=True)
    return None


def _as_recorded(calls: Sequence[Call], of_calls: Sequence[list[Line]]) -> _Kept:
    """The first calls, for a failure of which no line shows what is wrong."""
    for place, lines in enumerate(of_calls):
        for reading in RECORDED:
            if _recorded(lines, reading):
                method = calls[place].method
                same = [each for each, call in enumerate(calls) if call.method == method][:MOST_CALLS]
                return _Kept([_packed(calls[each], _recorded(of_calls[each], reading)) for each in same], reading)
    return _Kept([])


def _recorded(lines: Sequence[Line], reading: str) -> list[Line]:
    """The lines of this reading, without an expectation."""
    return [line.recorded() for line in lines if line.reading == reading]


OF_METHODS = {
    "match": matching_lines,
    "match_built": matching_lines,
    "denoising_group": group_lines,
    "denoising_group_called": group_lines,
    "defaults": default_lines,
    "point_counts": point_count_lines,
}
"""What writes lines about the answer of a method, to one case and under a spec."""


def lines_of(call: Call, judged: PortUnderTest) -> list[Line]:
    """The lines about one call."""
    if call.raised is not None:
        return [text("raised", "the call", [], call.raised, "an answer")]
    lines = [text(_reader(name), name, [], "changed", "as before") for name in call.touched if _reader(name)]
    first = call.cases[0]
    if call.method in OF_METHODS:
        return [*lines, *OF_METHODS[call.method](call.answer, first, judged)]
    if call.method == "accumulated_gradients":
        return [*lines, *accumulated_lines(call.answer, first, judged, *call.more)]
    if call.method == "denoising_indices":
        return [*lines, *pairing_lines(call.answer, first)]
    return [*lines, *loss_lines(call.method, call.answer, call.cases, judged, call.asked)]


def _reader(state: str) -> str:
    """The reading by which a script sees that this was changed; empty if it cannot see it."""
    return {f"NumPy's {GENERATOR}": "numpy", f"PyTorch's {GENERATOR}": "torch", f"Python's {GENERATOR}": "python"}.get(
        state, ""
    )


def _packed(call: Call, lines: Iterable[Line]) -> PacketCall:
    return PacketCall(
        method=call.method,
        cases=[to_document(case) for case in call.cases],
        options=asdict(call.cases[0].config) if call.cases else None,
        more=list(call.more),
        lines=list(lines),
    )
