"""`detr-conformance replay`: judge a port by a packet's rule, on its case alone. Nothing is drawn."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from detr_conformance.errors import UsageError, one_line, visible
from detr_conformance.options import CheckOptions
from detr_conformance.packets.composing import told
from detr_conformance.packets.lines import Line
from detr_conformance.packets.packet import Packet, PacketCall
from detr_conformance.packets.packet import read as read_packet
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import from_document
from detr_conformance.properties.judging import RuleResult, judge_on
from detr_conformance.properties.port import Port
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.reading import read_text
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.resolve import resolve

PASSES = "  the port is repaired, or another one; or it keeps something from one call to the next, or draws at random"
"""Why a case that failed may pass."""


@dataclass(frozen=True)
class Replayed:
    """What came of a packet.

    Attributes:
        packet: the packet.
        outcome: of its rule on its case, now.
        calls: what the port answers now, in those calls that tell most.
    """

    packet: Packet
    outcome: RuleResult
    calls: list[PacketCall]


def replay(path: str, port: str | None, adapter: str | None, denoising: str | None, profile: str | None) -> int:
    """Judge, and print what was and what is.

    Args:
        path: of the packet.
        port: another port than the packet's, as for `check`; None for that one.
        adapter: how to call another port.
        denoising: its generator of denoising queries.
        profile: other conventions than the packet's.

    Returns:
        0 if the rule passes now, 1 if it does not.

    Raises:
        UsageError: the packet or the port cannot be used, or the rule cannot judge the case.
    """
    packet, case = load(Path(path))
    options = _options(packet, port, adapter, denoising, profile)
    resolved, conventions = resolve(options)
    if options.profile is None and conventions.name != packet.profile:
        raise UsageError(
            f"there is no profile {one_line(packet.profile)!r}, and {one_line(resolved.name)} follows "
            f"{one_line(conventions.name)}: name the packet's with --profile package.module:SPEC"
        )
    replayed = replayed_on(packet, case, resolved, conventions)
    sys.stdout.write(summary(replayed, resolved.name))
    return 0 if replayed.outcome.verdict == "pass" else 1


def load(path: Path) -> tuple[Packet, LossCase]:
    """A packet and its case from a file.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    packet = read_text(path, "a packet")
    try:
        return read_packet(packet)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def replayed_on(packet: Packet, case: LossCase, port: Port, profile: LossSpec) -> Replayed:
    """Judge a port by the packet's rule on its case.

    Raises:
        UsageError: there is no such rule, or it cannot judge this case.
    """
    rule = rule_of(packet)
    earlier = [from_document(each) for each in packet.earlier]
    outcome = judge_on(case, rule, port, profile, earlier)
    if outcome.verdict == "unsupported" or (outcome.verdict == "pass" and not outcome.examples):
        reason = outcome.message or "rounding decides who is matched with whom"
        raise UsageError(f"{rule.id} cannot judge the case of this packet: {one_line(reason)}")
    return Replayed(packet, outcome, told(rule, port, profile, case).calls)


def rule_of(packet: Packet) -> Rule:
    """The rule that a packet is about.

    Raises:
        UsageError: this release has none of that id.
    """
    for rule in RULES:
        if rule.id == packet.rule.id:
            return rule
    raise UsageError(f"there is no rule {one_line(packet.rule.id)!r} in this release: the packet is of another one")


def summary(replayed: Replayed, port_name: str) -> str:
    """What the packet says, and what comes now, as text."""
    packet, outcome = replayed.packet, replayed.outcome
    now = f"now: {outcome.verdict}"
    lines = [
        f"{packet.rule.id} {packet.rule.title}, profile {packet.profile}",
        f"  {packet.rule.statement}",
        f"then: {packet.verdict}, {packet.port.name}: {packet.message}",
        *_told(packet.calls),
        f"{now}, {port_name}: {outcome.message}" if outcome.message else f"{now}, {port_name}",
        *(_told(replayed.calls) if outcome.verdict != "pass" else [PASSES]),
    ]
    return "".join(f"{visible(line)}\n" for line in lines)


def _told(calls: list[PacketCall]) -> list[str]:
    """Lines that are off, call by call."""
    return [f"  {call.method}(case): {_sentence(line)}" for call in calls for line in call.lines if line.off]


def _sentence(line: Line) -> str:
    if isinstance(line.expected, list):
        return f"{line.what}: expected {' or '.join(line.expected)}, got {line.got}"
    return f"{line.what}: expected {_short(line.expected)}, got {_short(line.got)}, allowed {_short(line.allowed)}"


def _short(number: str | None) -> str:
    return "anything" if number is None else f"{float(number):.9g}"


def _options(
    packet: Packet, port: str | None, adapter: str | None, denoising: str | None, profile: str | None
) -> CheckOptions:
    """What to resolve: the packet's port as it was called then, or another one as it is to be called now."""
    known = packet.profile in FAMILY or ":" in packet.profile  # otherwise the port has to bring it
    conventions = profile or (packet.profile if known else None)
    if port is None:
        own = packet.port
        return CheckOptions(
            port=own.spec,
            adapter=adapter or own.adapter,
            denoising=denoising or own.denoising,
            profile=conventions,
        )
    return CheckOptions(port=port, adapter=adapter, denoising=denoising, profile=conventions)
