"""Two mutants at once that explain what a port answers: the likely ones first, each then tried in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from detr_conformance.diagnosis.evidence import Evidence
from detr_conformance.mutants import Mutant
from detr_conformance.mutants.mutant import together
from detr_conformance.reference import LossSpec

PAIRS_TRIED = 100
"""So many pairs are tried in full, those first against which least speaks."""
CASES_FOR_PAIRS = 8
"""Pairs are sorted by what single mutants do on so many cases."""
CASES_AGAINST = 1
"""A mutant is in no pair if on more cases than these it spoils an answer that the port has right. On one, the other
mutant may hide it."""


def pairs_that_explain(evidence: Evidence, mistakes: Sequence[Mutant]) -> tuple[tuple[Mutant, ...], ...]:
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
