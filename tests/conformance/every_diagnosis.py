"""Diagnose the whole museum: how many deviations are named, how many pairs, and how many first divergences are right.

`python -m tests.conformance.every_diagnosis` prints the three figures, and what is not as it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from detr_conformance.deviations import MUSEUM, Deviation
from detr_conformance.deviations.combined import combined
from detr_conformance.deviations.steps import changed_steps
from detr_conformance.diagnosis.search import diagnose
from detr_conformance.properties.judged import Judged

from .museum_steps import STEPS_OF, divergence, evidence

PAIRS = 50


def names_step(deviation, found):
    """Whether the first step that differs is one that the deviation has changed."""
    changed = changed_steps(deviation)
    if found is None:
        return deviation.family in ("NUM", "API")
    return any(found.step in STEPS_OF.get(step, ()) for step in changed)


def diagnosis_of(port, cases):
    """Ids of the deviations that explain a port: of one or two for each explanation."""
    found = diagnose(Judged(port), cases)
    return [] if found is None else [sorted(each.id for each in explanation) for explanation in found.explanations]


def pair_evidence(first, second):
    """Cases on which one of the two shows."""
    return list(dict.fromkeys([*evidence(first), *evidence(second)]))


def random_pairs() -> Iterator[list[Deviation]]:
    """Always the same pairs of deviations that can be had together."""
    chance = np.random.default_rng(0)
    tried = 0
    while tried < PAIRS:
        pair = [MUSEUM[place] for place in chance.choice(len(MUSEUM), 2, replace=False)]
        if sum(each.generator is not MUSEUM[0].generator for each in pair) < 2:  # two generators cannot
            tried += 1
            yield pair


def divergences():
    """Deviations whose first divergence does not name the step that was changed."""
    return [each.id for each in MUSEUM if not names_step(each, divergence(each))]


def singles():
    """What each deviation is named."""
    return {each.id: diagnosis_of(each.port(), evidence(each)) for each in MUSEUM}


def pairs():
    """What each of the random pairs is named."""
    return {
        tuple(sorted(each.id for each in pair)): diagnosis_of(combined(pair), pair_evidence(*pair))
        for pair in random_pairs()
    }


def main():
    wrong = divergences()
    tell(f"{len(MUSEUM) - len(wrong)} of {len(MUSEUM)} first divergences name the step that was changed; not: {wrong}")
    named = singles()
    tell(f"{sum(map(bool, named.values()))} of {len(named)} deviations are named, {alone(named)} of them alone")
    for name, found in named.items():
        if found != [[name]]:
            tell(f"  {name}: {found or 'nothing'}{'' if not found or [name] in found else ' WRONG'}")
    found = pairs()
    tell(f"{sum(list(pair) in each for pair, each in found.items())} of {len(found)} random pairs are named")
    for pair, each in found.items():
        if list(pair) not in each:
            tell(f"  {pair}: {each or 'nothing'}")


def alone(named):
    return sum(found == [[name]] for name, found in named.items())


def tell(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
