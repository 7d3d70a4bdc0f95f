"""Diagnosis: which known mistake, or which two of them, or which other convention explains what a port answers.

Never a guess: a mutant of the museum is named only if it answers what the port answers, but for rounding, on every case
that the failed rules asked about, and is itself wrong on one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, islice

from detr_conformance import report
from detr_conformance.diagnosis.observation import (
    QUESTIONS,
    STEPS,
    Answers,
    AnswersOfSpec,
    Observation,
    Way,
    drawn,
    has_boxes_of,
    has_infinite_boxes,
    is_answered_by,
    left_open,
    noisy,
    observe_otherwise,
    observe_spec_otherwise,
    shows_in,
    whole,
)
from detr_conformance.mutants import MUSEUM, Mutant
from detr_conformance.mutants.mutant import together
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port import options_of
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.transforms import shared_out
from detr_conformance.properties.working import working
from detr_conformance.reference import FAMILY, LossSpec, differing

PAIRS_TRIED = 100
"""So many pairs are tried in full, those first against which least speaks."""
CASES_FOR_PAIRS = 8
"""Pairs are sorted by what single mutants do on so many cases."""
CASES_TO_TELL_APART = 24
"""So many further cases are asked about if more than one mutant explains all others."""
SEVERAL = Request(layers=(2, 4), images=(2, 4), queries=(2, 8), targets=(0, 3))
"""What those cases look like."""
CASES_OF_RANKS = 8
"""What ranks share is asked about on so many cases first."""
CASES_AS_PASSED = 6
"""On so many cases of several layers options are passed otherwise than by keyword."""
DECISIONS: dict[Way, tuple[str, ...]] = {
    "in steps": ("over_steps",),
    "in modes": ("in_mode",),
    "as passed": ("built", "matcher.built", "denoising.generator.called"),
    "by default": ("recipe",),
}
"""What may be wrong where one of these ways is the first to show anything: these decisions, and no convention."""
CASES_BESIDE = 4
"""What explains single calls is held to so many cases in each other way of asking."""
CASES_AGAINST = 1
"""A mutant is in no pair if on more cases than these it spoils an answer that the port has right. On one, the other
mutant may hide it."""


@dataclass(frozen=True)
class Explanation:
    """What explains a port.

    Attributes:
        mutants: mutants that explain it, one or two in each; several explanations that no case told apart.
        spec: the other spec that it follows, if it does.
    """

    mutants: tuple[tuple[Mutant, ...], ...] = ()
    spec: LossSpec | None = None


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


def _nothing() -> None:
    """Nobody wants to know."""


def diagnose(
    judged: PortUnderTest, cases: Sequence[LossCase], tell_that_pairs_are_left: Callable[[], object] = _nothing
) -> Explanation | None:
    """Explain what a port answers on these cases: on those with ties only where the others show nothing wrong.

    Args:
        judged: the port, and the spec to hold it to.
        cases: what it is asked.
        tell_that_pairs_are_left: is called where no single mistake explains it, before the longer part begins.

    Returns:
        What explains all of it; None if nothing does, or nothing is wrong.
    """
    evidence = _evidence(judged, cases)
    if evidence.is_right():
        return None
    for spec in FAMILY.values() if evidence.way not in DECISIONS else ():
        if spec is not judged.spec and evidence.is_right_by(spec):
            return Explanation(spec=spec)
    mistakes = [each for each in MUSEUM if _may_show(each, judged.spec, evidence.way)]
    single = [each for each in mistakes if evidence.is_explained_by(each.of(judged.spec))]
    if len(single) > 1:
        evidence = Evidence(judged, [*evidence.cases, *_further_cases(judged)], evidence.way)
        single = [each for each in single if evidence.is_explained_by(each.of(judged.spec))]
    if len(single) == 1:
        return Explanation(_with_what_shows_otherwise(judged, cases, single[0], evidence.way))
    if not single:
        tell_that_pairs_are_left()
    explanations = tuple((each,) for each in single) or _pairs(evidence, mistakes)
    return Explanation(explanations) if explanations else None


def _may_show(mutant: Mutant, spec: LossSpec, way: Way) -> bool:
    """Whether a mutant does anything to a spec, and may be what a way of asking shows first."""
    decisions = DECISIONS.get(way)
    shown = [change for change in mutant.changes(spec) if shows_in(way, change)]
    return any(decisions is None or change.startswith(decisions) for change in shown)


def _with_what_shows_otherwise(
    judged: PortUnderTest, cases: Sequence[LossCase], found: Mutant, first: Way
) -> tuple[tuple[Mutant, ...], ...]:
    """What explains the first way to ask that showed anything, and with it what a later way shows beside, if known."""
    ways = list(_ways(judged, cases))
    last = max(place for place, (_, way) in enumerate(ways) if way == first)
    for asked, way in ways[last + 1 :]:
        evidence = Evidence(judged, asked[:CASES_BESIDE], way)
        if not all(evidence.agrees_with(found.of(judged.spec), place) for place in range(len(evidence.cases))):
            others = [each for each in MUSEUM if each is not found and _may_show(each, judged.spec, way)]
            both = [(found, each) for each in others]
            named = [pair for pair in both if evidence.is_explained_by(together(pair, judged.spec))]
            return tuple(named) or ((found,),)
    return ((found,),)


def _evidence(judged: PortUnderTest, cases: Sequence[LossCase]) -> Evidence:
    """Evidence in which something is wrong, from the first way to ask that shows it."""
    evidence = Evidence(judged, ())
    for asked, way in _ways(judged, cases):
        evidence = Evidence(judged, asked, way)
        if not evidence.is_right():
            break
    return evidence


def _ways(judged: PortUnderTest, cases: Sequence[LossCase]) -> Iterator[tuple[Sequence[LossCase], Way]]:
    """Which cases to ask about in which way, the plainest first."""
    certain = [case for case in cases if oracle.matching_is_certain(case, judged.spec)]
    yield certain, "once"
    yield cases, "once"  # what is wrong shows in ties alone, which every solver breaks as it likes
    if judged.can("one_object"):
        yield certain, "in turn"
    several = [case for case in _further_cases(judged) if case.images > 1]
    if judged.can("ranks"):
        yield several[:CASES_OF_RANKS], "in ranks"
    if judged.can("normaliser"):  # a micro-batch without a target has no denoising queries
        with_targets = [case for case in several if all(each.targets for each in shared_out(case, STEPS))]
        yield with_targets[:CASES_OF_RANKS], "in steps"
    if judged.can("weighted_gradients"):
        yield certain, "in passes"
    if judged.can("modes"):
        yield certain, "in modes"
    if judged.can("constructor") and not options_of(judged.port):
        yield _further_cases(judged)[:CASES_AS_PASSED], "as passed"
    yield certain, "around"
    if judged.can("defaults"):
        yield certain[:1], "by default"


def _further_cases(judged: PortUnderTest) -> list[LossCase]:
    """Cases that tell most mutants apart: several of everything, with denoising where the port has it."""
    domain = working(judged, Domain.of(judged))
    drawn = islice(pool(SEVERAL, domain, 0), CASES_TO_TELL_APART)
    return [case for case in drawn if oracle.matching_is_certain(case, judged.spec)]


def _pairs(evidence: Evidence, mistakes: Sequence[Mutant]) -> tuple[tuple[Mutant, ...], ...]:
    """The first pair that explains everything, and those that do so and were as likely: mutants may be alike."""
    spec, named, likelihood = evidence.judged.spec, list[tuple[Mutant, ...]](), None
    for contradictions, pair in islice(_likely_pairs(evidence, mistakes), PAIRS_TRIED):
        if named and contradictions != likelihood:
            break
        if any(evidence.is_explained_by(together(order, spec)) for order in _orders(pair, spec)):
            named.append(pair)
            likelihood = contradictions
    return tuple(named)


def _orders(pair: tuple[Mutant, Mutant], spec: LossSpec) -> list[tuple[Mutant, ...]]:
    """A mutant that replaces a decision undoes what another one has made of it before: then the order matters."""
    one, other = pair
    return [pair, (other, one)] if {*one.changes(spec)} & {*other.changes(spec)} else [pair]


def _likely_pairs(
    evidence: Evidence, mistakes: Sequence[Mutant]
) -> list[tuple[tuple[int, int], tuple[Mutant, Mutant]]]:
    """Pairs, those first whose members by themselves explain most of what is wrong, and contradict least of it.

    Each with what speaks against it, see `_contradictions`.

    An answer that only one of the two changes should be as that one makes it, and one that neither changes right. There
    are exceptions: in what one of them has changed, such as the matching, the other does something else.
    """
    places, wrong = _telling_cases(evidence)
    effects = [effect for each in mistakes if (effect := _effect(evidence, each, places, wrong)) is not None]
    found = [
        (_contradictions(one, other, wrong), number, (one.mutant, other.mutant))
        for number, (one, other) in enumerate(combinations(effects, 2))
    ]
    return [(against, pair) for against, _, pair in sorted(found, key=lambda entry: entry[:2])]


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
    """What one mutant does, case by case.

    Attributes:
        mutant: the mutant.
        changed: names of the answers that it makes wrong.
        unlike: names of the answers that the port gives otherwise.
    """

    mutant: Mutant
    changed: list[set[str]]
    unlike: list[set[str]]


def _effect(evidence: Evidence, mutant: Mutant, places: Sequence[int], wrong: Sequence[set[str]]) -> Effect | None:
    """None where it does nothing, gives no answer, or spoils what the port has right."""
    changed, unlike, against = list[set[str]](), list[set[str]](), 0
    for number, seen in enumerate(evidence.answers(mutant.of(evidence.judged.spec), places)):
        if seen is None:
            return None
        changed.append(evidence.changed(places[number], seen))
        unlike.append(evidence.unlike(places[number], seen))
        against += bool(changed[-1] & unlike[-1] - wrong[number])
        if against > CASES_AGAINST:
            return None
    return Effect(mutant, changed, unlike) if any(changed) else None


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


def described(found: Explanation) -> report.Diagnosis:
    """As the report holds it."""
    if found.spec is not None:
        name = found.spec.name
        message = f"the port answers by the conventions of the profile {name}: judge it with --profile {name}"
        return report.Diagnosis(message=message, profile=name)
    named = [" and ".join(each.id for each in explanation) for explanation in found.mutants]
    by_id = {each.id: each for explanation in found.mutants for each in explanation}
    return report.Diagnosis(
        message=f"behaves like {' or '.join(named)}: the same answers on every case that was tried",
        deviations=[report.KnownMistake(id=each.id, story=each.story, link=each.link) for each in by_id.values()],
    )
