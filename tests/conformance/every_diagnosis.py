"""Diagnose the whole museum: how many mutants are named, how many pairs, and how many first divergences are right.

`python -m tests.conformance.every_diagnosis [SPEC …]` prints the figures for each spec, and what is amiss.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from detr_conformance.diagnosis.search import diagnose
from detr_conformance.mutants import MUSEUM, Mutant
from detr_conformance.mutants.mutant import together
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import MUTANT
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS

from .museum_evidence import divergence, evidence, failures
from .torch_mutants import TORCH_MUTANTS

PAIRS = 50


def names_step(mutant, found, spec=None):
    """Whether the first step that differs is one that was changed; what stays between calls shows in none."""
    changed = mutant.changes(spec)
    return changed == ["side_effects"] if found is None else found.step in changed


def diagnosis_of(port, cases, spec=ULTRALYTICS):
    """Ids of the mutants that explain a port: of one or two for each explanation."""
    found = diagnose(PortUnderTest(port, spec), cases)
    if found is None:
        return []
    return (
        [[found.spec.name]]
        if found.spec
        else [sorted(each.id for each in explanation) for explanation in found.mutants]
    )


def pair_evidence(pair, spec=ULTRALYTICS):
    """Cases on which one of the two shows."""
    return list(dict.fromkeys(case for each in pair for case in evidence(each, spec)))


def random_pairs(spec=ULTRALYTICS, count=PAIRS) -> Iterator[list[Mutant]]:
    """Always the same pairs of mutants that a rule can see and that take different decisions otherwise."""
    chance, seen = np.random.default_rng(0), shown(spec)
    tried = 0
    while tried < count:
        one, other = (seen[place] for place in chance.choice(len(seen), 2, replace=False))
        if not set(one.changes(spec)) & set(other.changes(spec)):
            tried += 1
            yield [one, other]


NEVER_SHOWN = (
    "over_ranks",
    "over_steps",
    "recipe",
    "mask_points",
    "in_mode",
    "built",
    "matcher.built",
    "denoising.generator.called",
    "denoising.generator.embedding_gradient",
)
"""What no loss of a single batch computes, built with options by keyword and called as always."""


def shows_on_one_batch(mutant):
    """Whether one batch can show it: not what only several ranks or micro-batches do, nor what losses do not read."""
    return not all(path.startswith(NEVER_SHOWN) for path in mutant.changes())


def shown(spec=ULTRALYTICS, every_nth=1):
    """Mutants that a rule can see under a spec."""
    return [each for each in MUSEUM[::every_nth] if each.changes(spec) and failures(each, spec, most=1)]


def divergences(spec=ULTRALYTICS, every_nth=1):
    """For each mutant whose first divergence does not name a decision that it takes otherwise, what it names."""
    found = {each.id: divergence(each, spec) for each in shown(spec, every_nth) if shows_on_one_batch(each)}
    by_id = {each.id: each for each in MUSEUM}
    return {name: each and each.step for name, each in found.items() if not names_step(by_id[name], each, spec)}


def singles(spec=ULTRALYTICS, every_nth=1):
    """What each mutant is named."""
    return {each.id: diagnosis_of(each.port(spec), evidence(each, spec), spec) for each in shown(spec, every_nth)}


def elsewhere():
    """What each mutant is named whose home is not the base spec, under its home."""
    others = [each for each in MUSEUM if each.home is not ULTRALYTICS]
    return {each.id: diagnosis_of(each.port(), evidence(each), each.home) for each in others}


def pairs(spec=ULTRALYTICS, count=PAIRS):
    """What each of the random pairs is named."""
    found = {}
    for pair in random_pairs(spec, count):
        port = ReferencePort(together(pair, spec), "two", profile=spec)
        found[tuple(sorted(each.id for each in pair))] = diagnosis_of(port, pair_evidence(pair, spec), spec)
    return found


def in_torch():
    """What each port in float32 torch is named that makes the mistake of a mutant."""
    return {name: diagnosis_of(port, evidence(MUTANT[name], port=port)) for name, port in TORCH_MUTANTS.items()}


def main(names):
    for spec in [FAMILY[name] for name in names] or (ULTRALYTICS, RTDETR):
        tell(f"under {spec.name}")
        wrong, named = divergences(spec), singles(spec)
        on_one_batch = sum(shows_on_one_batch(MUTANT[name]) for name in named)
        tell(f"{on_one_batch - len(wrong)} of {on_one_batch} first divergences name a decision changed; not: {wrong}")
        tell(f"{sum(map(bool, named.values()))} of {len(named)} mutants are named, {alone(named)} of them alone")
        for name, found in named.items():
            if found != [[name]]:
                tell(f"  {name}: {found or 'nothing'}{'' if not found or [name] in found else ' WRONG'}")
        found = pairs(spec)
        tell(f"{sum(list(pair) in each for pair, each in found.items())} of {len(found)} random pairs are named")
        for pair, each in found.items():
            if list(pair) not in each:
                tell(f"  {pair}: {each or 'nothing'}")
    found = elsewhere()
    tell(f"{sum([name] in each for name, each in found.items())} of {len(found)} mutants of other specs are named")
    for name, each in found.items():
        if each != [[name]]:
            tell(f"  {name}: {each or 'nothing'}{'' if not each or [name] in each else ' WRONG'}")
    named = {name: [name] in found for name, found in in_torch().items()}
    unnamed = ", ".join(name for name, known in named.items() if not known)
    tell(f"{sum(named.values())} of {len(named)} mutants written in float32 torch are named; not: {unnamed or 'none'}")


def alone(named):
    return sum(found == [[name]] for name, found in named.items())


def tell(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
