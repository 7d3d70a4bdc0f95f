"""What a port answered on some cases, and what is right there: what a mutant or a convention has to explain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache

from detr_conformance.diagnosis.answers import QUESTIONS, Answers, AnswersOfSpec, is_answered_by
from detr_conformance.diagnosis.observation import (
    Observation,
    drawn,
    has_boxes_of,
    has_infinite_boxes,
    left_open,
    noisy,
    whole,
)
from detr_conformance.diagnosis.ways import Way, observe_otherwise, observe_spec_otherwise
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.reference import LossSpec, differing


class Evidence:
    """What a port answered, on which cases, and what is right there.

    Args:
        judged: the port, and the spec to hold it to.
        cases: what it is asked; those on which it raises are left out. So is the noise of a port that draws its own.
        way: how it is asked.
    """

    def __init__(self, judged: PortUnderTest, cases: Sequence[LossCase], way: Way = "once") -> None:
        """Ask the port."""
        self.judged = judged
        self.way = way
        self.cases: list[LossCase] = []
        self.observed: list[Observation] = []
        self._parts_observed: list[dict[str, Observation]] = []
        for case in cases:
            with suppress(PortError):
                parts = self._asked(case)
                self.cases.append(case)
                self._parts_observed.append(parts)
                self.observed.append(whole(parts.values()))
        for place, case in enumerate(self.cases):
            if has_infinite_boxes(case):
                self._forget(place, left_open(self.right[place]))
        if way == "once" and not self._draws_like_the_reference():
            for place, case in enumerate(self.cases):
                self._forget(place, drawn(case))

    def _asked(self, case: LossCase) -> dict[str, Observation]:
        if self.way != "once":
            return {self.way: observe_otherwise(self.judged, case, self.way)}
        answers = Answers(self.judged, case)
        return {question: answers.to(question) for question in QUESTIONS}

    def _forget(self, place: int, names: Collection[str]) -> None:
        parts = {question: part.without(names) for question, part in self._parts_observed[place].items()}
        self._parts_observed[place] = parts
        self.observed[place] = whole(parts.values())

    def _draws_like_the_reference(self) -> bool:
        """Whether draws can be compared: noise is the reference's somewhere, in any order, or labels everywhere."""
        alike, differing = set[str](), set[str]()
        for place, case in enumerate(self.cases):
            unlike = self.unlike(place, self.right[place])
            alike |= (noisy(case) & self.observed[place].numbers.keys()) - unlike  # a choice of targets may recur
            if has_boxes_of(self.observed[place], self.right[place]):
                alike |= noisy(case) & {"denoising boxes"}
            differing |= drawn(case) & unlike
        return "denoising boxes" in alike or "denoising labels" not in differing

    @cached_property
    def _parts_right(self) -> list[dict[str, Observation] | None]:
        return [self._all_parts(self.judged.spec, place) for place in range(len(self.cases))]

    @cached_property
    def right(self) -> list[Observation | None]:
        """What the reference answers, case by case; None where it raises."""
        return [None if parts is None else whole(parts.values()) for parts in self._parts_right]

    def _all_parts(self, spec: LossSpec, place: int) -> dict[str, Observation] | None:
        try:
            return dict(self._parts(spec, place))
        except PortError:
            return None

    def _parts(self, spec: LossSpec, place: int) -> Iterator[tuple[str, Observation]]:
        """What a spec answers on a case, question by question: the reference's where it decides no otherwise.

        Raises:
            PortError: it raises.
        """
        case = self.cases[place]
        if self.way != "once":
            yield self.way, observe_spec_otherwise(spec, self.judged, case, self.way)
            return
        right = None if spec is self.judged.spec else self._parts_right[place]
        changes, answers = _changes(self.judged.spec, spec), AnswersOfSpec(spec, self.judged, case)
        for question in QUESTIONS:
            is_open = right is None or any(is_answered_by(question, path) for path in changes)
            yield question, answers.to(question) if right is None or is_open else right[question]

    def answers(self, spec: LossSpec, places: Iterable[int]) -> Iterator[Observation | None]:
        """What a spec answers in these places; None where it raises."""
        for place in places:
            parts = self._all_parts(spec, place)
            yield None if parts is None else whole(parts.values())

    def unlike(self, place: int, other: Observation | None) -> set[str]:
        """Names of what the port answers on a case and another one does not."""
        observed = self.observed[place]
        if other is None:
            return observed.facts.keys() | observed.numbers.keys()
        return observed.differences(other, self.cases[place].dtype)

    def changed(self, place: int, other: Observation) -> set[str]:
        """Names of what a spec answers on a case and is not right."""
        right = self.right[place]
        return set() if right is None else other.differences(right, self.cases[place].dtype)

    def is_explained_by(self, spec: LossSpec) -> bool:
        """Whether a spec answers all that the port does."""
        return all(self.agrees_with(spec, place) for place in self._quickest_to_refute)

    def agrees_with(self, spec: LossSpec, place: int) -> bool:
        """Whether a spec answers what the port does on a case."""
        observed, dtype = self._parts_observed[place], self.cases[place].dtype
        try:
            return not any(observed[question].differences(seen, dtype) for question, seen in self._parts(spec, place))
        except PortError:
            return False

    @cached_property
    def _quickest_to_refute(self) -> list[int]:
        """The cases on which the port is wrong, where nearly every mutant answers otherwise; the small ones first."""

        def cost(place: int) -> tuple[bool, int]:
            case = self.cases[place]
            numbers = case.pred_scores.size + (0 if case.denoising is None else case.denoising.scores.size)
            return not self.unlike(place, self.right[place]), numbers

        return sorted(range(len(self.cases)), key=cost)

    def is_right_by(self, spec: LossSpec) -> bool:
        """Whether nothing is wrong with what the port answers when it is held to another spec.

        Nor with what it answers when asked once: of losses whose names a spec does not know, no other way shows any.
        """
        first = [self.cases[self._quickest_to_refute[0]]]
        asked = [(first, self.way), (self.cases, self.way), (self.cases, "once")]
        by_spec = (Evidence(PortUnderTest(self.judged.port, spec), *each) for each in asked)
        return all(each.cases == cases and each.is_right() for each, (cases, _) in zip(by_spec, asked, strict=True))

    def is_right(self) -> bool:
        """Whether nothing is wrong with what the port answers on these cases."""
        return all(not self.unlike(place, seen) for place, seen in enumerate(self.right))


@lru_cache(maxsize=4096)
def _changes(right: LossSpec, other: LossSpec) -> tuple[str, ...]:
    return tuple(differing(right, other))
