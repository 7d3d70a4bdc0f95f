"""A question: decisions that are taken together, and how they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from detr_conformance.identify.decisions import Decision
from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig

Choice = dict[str, int]
"""For each decision the number of an alternative."""

Names = Callable[[LossCase], Sequence[str]]
"""The answers to look at, on a case."""

CHOICE_OF_TERM = "choose_class_term"


@dataclass(frozen=True)
class Question:
    """Decisions that are taken together, and how they show.

    Attributes:
        about: what is looked at, in a few words.
        prefixes: how the paths of its decisions begin.
        names: the answers to look at, on a case.
        cases: where they show.
        patience: after so many cases on which nothing that is left differs nobody looks further.
        kind: the classification loss that is asked for, where another may be used in its place; empty elsewhere.
    """

    about: str
    prefixes: tuple[str, ...]
    names: Names
    cases: Callable[[], Iterator[LossCase]]
    patience: int = 3
    kind: str = ""

    def ways(self, decisions: Mapping[str, Decision], left: Mapping[str, Sequence[int]]) -> list[Choice]:
        """In how many ways its decisions can be taken with what is left."""
        if not self.kind or CHOICE_OF_TERM not in left:
            return _ways(left, (*self.prefixes, *_of_term(self.kind)))
        ways: list[Choice] = []
        for place in left[CHOICE_OF_TERM]:
            name = term_used(decisions[CHOICE_OF_TERM], place, self.kind)
            ways += [{CHOICE_OF_TERM: place} | way for way in _ways(left, (*self.prefixes, *_of_term(name)))]
        return ways


def term_used(decision: Decision, place: int, kind: str) -> str:
    """The name of the classification loss that is used where one of a kind is asked for."""
    options: dict[str, Any] = CLASSIFICATION[kind]
    name: str = decision.alternatives[place].value(LossConfig(**options), 1)
    return name


def _of_term(name: str) -> tuple[str, ...]:
    return (f"class_terms.{name}", f"normaliser.{name}") if name else ()


def _ways(left: Mapping[str, Sequence[int]], prefixes: Sequence[str]) -> list[Choice]:
    own = [path for path in left if f"{path}.".startswith(tuple(f"{each}." for each in prefixes))]
    return [dict(zip(own, places, strict=True)) for places in product(*(left[path] for path in own))]
