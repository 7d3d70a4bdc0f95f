"""Diagnosis: which known mistake, or which two of them, or which other convention explains what a port answers.

Never a guess: a deviation of the museum is named only if it answers what the port answers, but for rounding, on every
case that the failed rules asked about, and is itself wrong on one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from detr_conformance import report
from detr_conformance.deviations import MUSEUM, Deviation
from detr_conformance.deviations.combined import combined
from detr_conformance.diagnosis.observation import Observation, observe
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged, PortError
from detr_conformance.properties.profiles import PROFILES

PAIRS_TRIED = 100
"""So many pairs are tried in full, those first against which least speaks."""
CASES_FOR_PAIRS = 8
"""Pairs are sorted by what single deviations do on so many cases."""


@dataclass(frozen=True)
class Diagnosis:
    """What explains a port.

    Attributes:
        explanations: deviations that explain it, one or two in each; several explanations that no case told apart.
        profile: the other profile whose conventions it follows, if one does.
    """

    explanations: tuple[tuple[Deviation, ...], ...] = ()
    profile: str | None = None


class Evidence:
    """What a port answered, on which cases, and what is right there.

    Args:
        judged: the port.
        cases: what it is asked; those on which it raises are left out.
    """

    def __init__(self, judged: Judged, cases: Sequence[LossCase]) -> None:
        """Ask the port, and the reference."""
        self.judged = judged
        self.cases: list[LossCase] = []
        self.observed: list[Observation] = []
        for case in cases:
            seen = self._of(judged, case)
            if seen is not None:
                self.cases.append(case)
                self.observed.append(seen)
        self.right = list(self.answers(ReferencePort("right", judged.profile.loss)))

    def answers(self, port: ReferencePort, places: Iterable[int] | None = None) -> Iterator[Observation | None]:
        """What another port answers case by case, or in these places; None where it raises."""
        judged = Judged(port, self.judged.profile)
        return (self._of(judged, self.cases[place]) for place in (range(len(self.cases)) if places is None else places))

    def unlike(self, place: int, other: Observation | None) -> set[str]:
        """Names of what the port answers on a case and another one does not."""
        if other is None:
            return self.observed[place].facts.keys() | self.observed[place].numbers.keys()
        case = self.cases[place]
        expected = oracle.expected_losses(case, self.judged.profile)
        return self.observed[place].differences(other, expected, case.dtype)

    def changed(self, place: int, other: Observation) -> set[str]:
        """Names of what another port answers on a case and is not right."""
        right, case = self.right[place], self.cases[place]
        if right is None:
            return set()
        return other.differences(right, oracle.expected_losses(case, self.judged.profile), case.dtype)

    def is_explained_by(self, port: ReferencePort) -> bool:
        """Whether another port answers all that this one does."""
        return all(not self.unlike(place, seen) for place, seen in enumerate(self.answers(port)))

    def is_right(self) -> bool:
        """Whether nothing is wrong with what the port answers on these cases."""
        return all(not self.unlike(place, seen) for place, seen in enumerate(self.right))

    @staticmethod
    def _of(judged: Judged, case: LossCase) -> Observation | None:
        try:
            return observe(judged, case)
        except PortError:
            return None


def diagnose(judged: Judged, cases: Sequence[LossCase]) -> Diagnosis | None:
    """Explain what a port answers on these cases.

    Returns:
        What explains all of it; None if nothing does, or nothing is wrong.
    """
    evidence = Evidence(judged, cases)
    if evidence.is_right():
        return None
    for name, profile in PROFILES.items():
        if profile is not judged.profile and evidence.is_explained_by(ReferencePort(name, profile.loss)):
            return Diagnosis(profile=name)
    base = judged.profile.loss
    single = tuple((each,) for each in MUSEUM if evidence.is_explained_by(combined([each], base)))
    explanations = single or _pairs(evidence)
    return Diagnosis(explanations) if explanations else None


def _pairs(evidence: Evidence) -> tuple[tuple[Deviation, ...], ...]:
    """The first pair that explains everything."""
    for pair, port in islice(_ports_of_pairs(evidence), PAIRS_TRIED):
        if evidence.is_explained_by(port):
            return (pair,)
    return ()


def _ports_of_pairs(evidence: Evidence) -> Iterator[tuple[tuple[Deviation, Deviation], ReferencePort]]:
    """Likely pairs with a port that has both, without those that cannot be had together."""
    for pair in _likely_pairs(evidence):
        try:
            port = combined(pair, evidence.judged.profile.loss)
        except TypeError:  # two generators, for instance
            continue
        yield pair, port


def _likely_pairs(evidence: Evidence) -> list[tuple[Deviation, Deviation]]:
    """Pairs, those first whose members by themselves explain most of what is wrong, and contradict least of it.

    An answer that only one of the two changes should be as that one makes it, and one that neither changes right. There
    are exceptions: in what one of them has changed, such as the matching, the other does something else.
    """
    places, wrong = _telling_cases(evidence)
    effects = [effect for each in MUSEUM if (effect := _effect(evidence, each, places)) is not None]
    found = [
        (_contradictions(one, other, wrong), number, (one.deviation, other.deviation))
        for number, (one, other) in enumerate(combinations(effects, 2))
    ]
    return [pair for _, _, pair in sorted(found, key=lambda entry: entry[:2])]


def _telling_cases(evidence: Evidence) -> tuple[list[int], list[set[str]]]:
    """A few cases that have everything between them that is wrong, and little each; and what is wrong in each."""
    wrong = [evidence.unlike(place, right) for place, right in enumerate(evidence.right)]
    left = [place for place, each in enumerate(wrong) if each]
    chosen, seen, names = list[int](), list[set[str]](), set[str]()

    def value(place: int) -> tuple[int, bool, int]:
        return len(wrong[place] - names), wrong[place] not in seen, -len(wrong[place])

    while left and len(chosen) < CASES_FOR_PAIRS:
        best = max(left, key=value)
        left.remove(best)
        chosen.append(best)
        seen.append(wrong[best])
        names |= wrong[best]
    return chosen, seen


@dataclass(frozen=True)
class Effect:
    """What one deviation does, case by case.

    Attributes:
        deviation: the deviation.
        changed: names of the answers that it makes wrong.
        unlike: names of the answers that the port gives otherwise.
    """

    deviation: Deviation
    changed: list[set[str]]
    unlike: list[set[str]]


def _effect(evidence: Evidence, deviation: Deviation, places: Sequence[int]) -> Effect | None:
    """None where it does nothing, or gives no answer."""
    port = combined([deviation], evidence.judged.profile.loss)
    changed, unlike = list[set[str]](), list[set[str]]()
    for place, seen in zip(places, evidence.answers(port, places), strict=True):
        if seen is None:
            return None
        changed.append(evidence.changed(place, seen))
        unlike.append(evidence.unlike(place, seen))
    return Effect(deviation, changed, unlike) if any(changed) else None


def _contradictions(one: Effect, other: Effect, wrong: Sequence[set[str]]) -> tuple[int, int]:
    """How many answers speak against the pair; and how many both change, of which nothing is known."""
    against = shared = 0
    for place, of_port in enumerate(wrong):
        both = one.changed[place] & other.changed[place]
        only_one, only_other = one.changed[place] - both, other.changed[place] - both
        against += len(only_one & one.unlike[place]) + len(only_other & other.unlike[place])
        against += len(of_port - only_one - only_other - both)
        shared += len(both)
    return against, shared


def described(diagnosis: Diagnosis) -> report.Diagnosis:
    """As the report holds it."""
    if diagnosis.profile is not None:
        name = diagnosis.profile
        message = f"the port answers by the conventions of the profile {name}: judge it with --profile {name}"
        return report.Diagnosis(message=message, profile=name)
    named = [" and ".join(each.id for each in explanation) for explanation in diagnosis.explanations]
    together = {each.id: each for explanation in diagnosis.explanations for each in explanation}
    return report.Diagnosis(
        message=f"behaves like {' or '.join(named)}: the same answers on every case that was tried",
        deviations=[report.KnownMistake(id=each.id, story=each.story, link=each.link) for each in together.values()],
    )
