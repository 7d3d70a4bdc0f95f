"""One mutant: whether it differs from the original at all, and which rule fails it first."""

from __future__ import annotations

from collections.abc import Sequence

from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES

from .mutants import all_mutants
from .probing import difference, raises_in_an_ordinary_step
from .results import Result

RULE = {rule.id: rule for rule in RULES}
SEED = 0
BUILDING = "building it"
"""What stands for a probe, and for a rule, where the loss cannot even be built."""


def judged(name: str, level: str, order: Sequence[str]) -> Result:
    """What becomes of a mutant at this level, when rules are tried in this order."""
    mutant = all_mutants()[name]
    try:
        port = mutant.port()
    except Exception:  # noqa: BLE001  # a mutant may raise anything
        return Result(mutant.change, "killed", BUILDING, BUILDING, level, raises=True)
    probe = difference(port)
    if probe is None:
        return Result(mutant.change, "equivalent")
    raises = raises_in_an_ordinary_step(port)
    rule = first_to_fail(port, level, order)
    return Result(mutant.change, "killed" if rule else "survived", probe, rule, level, raises)


def first_to_fail(port, level: str, order: Sequence[str]) -> str:
    """The id of the first rule that does not hold; empty if all do."""
    asked = PortUnderTest(port)
    applying = (RULE[each] for each in order if RULE[each].applies(asked))
    failing = (
        each.id
        for each in applying
        if judge(each, port, level=level, seed=SEED, shrink=False).verdict in ("fail", "error")
    )
    return next(failing, "")
