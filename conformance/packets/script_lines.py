"""Lines that every script beside a packet has: how it is loaded, and what is compared and printed."""

from __future__ import annotations

from detr_conformance.packets.packet import Packet

NUMERIC = frozenset({"number", "gradient", "accumulated", "cost"})
"""Readings that give a number, which may be off by some rounding."""


def loaded(packet_name: str, options: str = "", more: str = "") -> str:
    """The line that reads the packet, which lies where the script does."""
    names, values = (f"packet, {more}", ", []") if more else ("packet", "")
    return f'{names} = json.loads(Path(__file__).with_name("{packet_name}").read_text(){options}){values}'


def verdict(packet: Packet) -> str:
    """The exit status; where no line says what is wrong, only the rule can, in its message."""
    return (
        "raise SystemExit(any(wrong))"
        if packet.shown or packet.again
        else 'raise SystemExit(packet["message"] if all(wrong) else 0)'
    )


def compared(packet: Packet) -> list[str]:
    """What is printed of a line, and whether it is wrong; or the same as it was, where nothing is known but that."""
    if packet.again:
        return [
            'first = answers.setdefault(line["what"], came)',
            "wrong.append(str(came) != str(first))",
            "print(line['what'], 'was', first, 'when first asked for, and is', came)",
        ]
    if not packet.shown:
        return [
            'wrong.append(str(came) == line["got"])',
            "print(f\"{line['what']}: {line['got']} when the rule failed, {came} now\")",
        ]
    if packet.reading in NUMERIC:
        return [
            'off = abs(came - float(line["expected"]))',
            'wrong.append(str(came) != line["expected"] and not off <= float(line["allowed"]))',
            "print(line['what'], 'expected', line['expected'], 'came', came, 'off', off, 'allowed', line['allowed'])",
        ]
    return [
        'wrong.append(came not in line["expected"])',
        "print(line['what'], 'has to be', *line['expected'], 'and is', came)",
    ]


def indented(levels: int, lines: list[str]) -> list[str]:
    """The lines, so many levels further in."""
    return [f"{'    ' * levels}{line}" for line in lines]
