"""The power of the rules against generated mutants: figures that `tests/generated` writes, a part of `docs/power.md`.

The mutants themselves stay in `tests/`: a plainly written loss, with one node of its syntax tree replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import msgspec

HEAD = """## Generated mutants

The museum holds mistakes that somebody thought of. These are made by a program, of a port that was written for them:
one node of its syntax tree is replaced. A mutant *differs* if it answers one of about forty probes otherwise than the
original, by more than single precision rounds; only those count. Written by `python -m tests.generated.run`.
"""


PARTIAL = (
    "**The measurement is not complete**: every third mutant was judged, and of the others those that come first.\n"
)
"""Stands before the figures until every mutant was judged."""


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A generated mutant that no rule fails.

    Attributes:
        id: its function, its operator and a number.
        change: where, what and by what.
        why: the reason why it is no mistake, or what no rule sees.
    """

    id: str
    change: str
    why: str


class Share(msgspec.Struct, frozen=True, array_like=True):
    """How many of the mutants that differ are killed."""

    killed: int
    differing: int


class GeneratedPower(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the generated mutants.

    Attributes:
        mutants: how many there are.
        judged: how many of these the figures are about.
        equivalent: how many answer every probe as the original does.
        hanging: how many do not come to an end.
        raising: how many of those that differ raise in an ordinary training step.
        levels: by level, those that differ and are killed there.
        operators: the same by operator, at the highest of these levels.
        survivors: of that level.
    """

    mutants: int
    judged: int
    equivalent: int
    hanging: int
    raising: int
    levels: dict[str, Share]
    operators: dict[str, Share]
    survivors: list[Survivor]

    def to_json(self) -> str:
        """The figures as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def recorded() -> GeneratedPower:
    """The figures that the suite was released with."""
    return msgspec.json.decode((files("detr_conformance") / "generated_kills.json").read_bytes(), type=GeneratedPower)


def section(power: GeneratedPower) -> Iterator[str]:
    """Their part of the document, line by line."""
    yield HEAD
    if power.judged < power.mutants:
        yield PARTIAL
    yield "| | |"
    yield "|---|---|"
    yield f"| mutants | {power.mutants} |"
    yield f"| judged | {power.judged} |"
    yield f"| equivalent: no probe tells them from the original | {power.equivalent} |"
    yield f"| without an end | {power.hanging} |"
    yield from (
        f"| killed at level {level}, of those that differ | {_text(share)} |" for level, share in power.levels.items()
    )
    yield f"| raise in an ordinary training step | {power.raising} |"
    yield "\n| operator | killed, of those that differ |"
    yield "|---|---|"
    yield from (f"| {operator.replace('_', ' ')} | {_text(share)} |" for operator, share in power.operators.items())
    yield ""
    yield from _survivors(power.survivors)


def _survivors(survivors: list[Survivor]) -> Iterator[str]:
    """A table of them, if there are any."""
    if not survivors:
        return
    yield "### Survivors\n"
    yield "| mutant | change | |"
    yield "|---|---|---|"
    yield from (f"| `{each.id}` | `{_in_cell(each.change)}` | {_in_cell(each.why)} |" for each in survivors)
    yield ""


def _text(share: Share) -> str:
    return f"{share.killed} of {share.differing} ({share.killed / max(share.differing, 1):.1%})"


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")
