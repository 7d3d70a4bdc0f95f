"""Lines of a packet: each has one number or text of a port's answer, beside what it has to be."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from detr_conformance.errors import visible

Step = str | int
"""An attribute, a key or an index: one step of the path from an answer to what a line is about."""

READINGS = (
    *("raised", "type", "keys", "shape", "list", "number", "gradient", "accumulated"),
    *("cost", "pairs", "numpy", "python", "torch"),
)
"""How what stands at the end of the path is read; `detr_conformance.packets.script` has the code for each."""

MOST = 6
"""So many lines of one kind a call has; the rest is counted."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in an answer.

    Numbers are decimal texts with all digits, so that they come back bit for bit and can be read.

    Attributes:
        what: its name, for people.
        reading: how it is read, of `READINGS`.
        at: paths to it through the answer; several are added up.
        expected: what it has to be, or the texts that are legal; None where the suite has no single answer.
        allowed: how far off a number may be; None for a text.
        got: what it was when the packet was written.
        cost: of a matching: the cost of each query and target, and inf in a last row and column for those that do not
            exist.
        pairs: of a matching: how many there have to be.
    """

    what: str
    reading: str
    at: list[list[Step]]
    expected: str | list[str] | None
    got: str
    allowed: str | None = None
    cost: list[list[str]] | None = None
    pairs: int | None = None

    @property
    def off(self) -> bool:
        """Whether it shows that something is wrong."""
        if self.expected is None:
            return False
        if isinstance(self.expected, list) or self.allowed is None:
            return self.got not in self.expected
        return self.got != self.expected and not abs(float(self.got) - float(self.expected)) <= float(self.allowed)

    def recorded(self) -> Line:
        """The same without an expectation."""
        return msgspec.structs.replace(self, expected=None, allowed=None)


def number(
    what: str, at: list[list[Step]], got: float, expected: float, allowed: float, reading: str = "number"
) -> Line:
    """A line about a number."""
    came, wanted, budget = (repr(float(each)) for each in (got, expected, allowed))
    return Line(what=what, reading=reading, at=at, got=came, expected=wanted, allowed=budget)


def text(reading: str, what: str, at: list[Step], got: object, *legal: object) -> Line:
    """A line about a text, of which several may be legal."""
    return Line(what=what, reading=reading, at=[at], got=visible(str(got)), expected=[str(each) for each in legal])


def entries(
    what: str,
    ways: list[list[Step]],
    got: np.ndarray,
    expected: np.ndarray,
    allowed: np.ndarray | float,
    reading: str = "number",
) -> list[Line]:
    """Lines about those entries of an array that are off, the worst first; the first few of them."""
    budgets = np.broadcast_to(allowed, got.shape)
    with np.errstate(all="ignore"):
        error = np.abs(got - expected)
        excess = np.nan_to_num(error / budgets, nan=np.inf)
    alike = (got == expected) | (np.isnan(got) & np.isnan(expected)) | (error <= budgets)
    # Where the budget is infinite any number will do, but a number it has to be.
    wrong = np.argwhere(~alike & (np.isfinite(budgets) | np.isnan(got))).tolist()
    lines = []
    for entry in sorted(wrong, key=lambda entry: -float(excess[tuple(entry)]))[:MOST]:
        where, at = tuple(entry), [[*way, *entry] for way in ways]
        lines.append(number(f"{what}{entry}", at, got[where], expected[where], budgets[where], reading))
    return lines


def telling(lines: Iterable[Line], preferred: Iterable[str]) -> str | None:
    """The reading that shows that something is wrong, the first of these if there are several."""
    off = {line.reading for line in lines if line.off}
    return next((reading for reading in (*preferred, *READINGS) if reading in off), None)


def read_as(lines: Iterable[Line], reading: str) -> list[Line]:
    """The lines of one reading that have an expectation."""
    return [line for line in lines if line.reading == reading and line.expected is not None]
