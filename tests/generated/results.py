"""What has become of the mutants, as a file that is added to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from .mutants import all_mutants

FILE = Path(__file__).parent / "results.json"


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What has become of a mutant.

    Attributes:
        change: the node that it replaces, and by what.
        outcome: `equivalent`: it answers every probe as the original does; `hangs`: no end, or that of its process;
            `killed`: a rule fails it; `survived`: none does.
        probe: the first that shows a difference.
        rule: the one that kills it, of those that would do the first that was tried.
        level: at which it was judged.
        raises: an ordinary step raises.
    """

    change: str
    outcome: Literal["equivalent", "hangs", "killed", "survived"]
    probe: str = ""
    rule: str = ""
    level: str = ""
    raises: bool = False


def recorded(file: Path = FILE) -> dict[str, Result]:
    """The results in the file, as far as the mutants are still the same."""
    if not file.exists():
        return {}
    results = msgspec.json.decode(file.read_bytes(), type=dict[str, Result])
    mutants = all_mutants()
    return {name: each for name, each in results.items() if name in mutants and mutants[name].change == each.change}


def write(results: dict[str, Result], file: Path = FILE) -> None:
    """One line for each mutant, in the order of the mutants, so that a change is seen as one."""
    ordered = [name for name in all_mutants() if name in results]
    lines = [f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(results[name]).decode()}" for name in ordered]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def of_outcome(results: dict[str, Result], outcome: str) -> list[str]:
    """The mutants that have come to this."""
    return [name for name, each in results.items() if each.outcome == outcome]


def kills(results: dict[str, Result]) -> Counter[str]:
    """How many mutants each rule has killed."""
    return Counter(each.rule for each in results.values() if each.outcome == "killed")
