"""Diagnosis: which known mistake, or which two of them, or which other convention explains what a port answers.

Never a guess: a mutant of the museum is named only if it answers what the port answers, but for rounding, on every case
that the failed rules asked about, and is itself wrong on one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from detr_conformance import report
from detr_conformance.diagnosis.evidence import Evidence
from detr_conformance.diagnosis.pairs import pairs_that_explain
from detr_conformance.diagnosis.ways import STEPS, Way, shows_in
from detr_conformance.mutants import MUSEUM, Mutant
from detr_conformance.mutants.mutant import together
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port import options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.transforms import shared_out
from detr_conformance.properties.working import working
from detr_conformance.reference import FAMILY, LossSpec

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
    "in situations": ("in_mode",),
    "as passed": ("built", "matcher.built", "denoising.generator.called"),
    "by default": ("recipe",),
}
"""What may be wrong where one of these ways is the first to show anything: these decisions, and no convention."""
OF_CERTAIN_CASES: dict[str, Way] = {
    "weighted_gradients": "in passes",
    "modes": "in modes",
    "situations": "in situations",
}
"""Capabilities, each with the way of asking that it allows, where the pairs are certain."""
CASES_BESIDE = 4
"""What explains single calls is held to so many cases in each other way of asking."""


@dataclass(frozen=True)
class Explanation:
    """What explains a port.

    Attributes:
        mutants: mutants that explain it, one or two in each; several explanations that no case told apart.
        spec: the other spec that it follows, if it does.
    """

    mutants: tuple[tuple[Mutant, ...], ...] = ()
    spec: LossSpec | None = None


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
    explanations = tuple((each,) for each in single) or pairs_that_explain(evidence, mistakes)
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
    for capability, way in OF_CERTAIN_CASES.items():
        if judged.can(capability):
            yield certain, way
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
