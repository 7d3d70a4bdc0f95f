"""Real bugs, rebuilt: each answers what the rules ask. What fails them is measured in test_power.py."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings

from detr_conformance.mutants import MUSEUM, Mutant
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.rule import FAMILIES, Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import loss_cases
from detr_conformance.reference import FAMILY, ULTRALYTICS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls for each mutant


@pytest.fixture(scope="module")
def cases_of_rules() -> list[tuple[Rule, LossCase]]:
    """A case for every rule of the base spec; the second one drawn, since the first is the smallest there is."""

    def second(rule: Rule) -> LossCase:
        cases = []

        @settings(max_examples=2)
        @given(loss_cases(rule.request))
        def collect(case: LossCase) -> None:
            cases.append(case)

        collect()
        return cases[1]

    judged = PortUnderTest(ReferencePort())
    return [(rule, second(rule)) for rule in RULES if rule.applies(judged)]


@pytest.mark.thorough
@pytest.mark.parametrize("mutant", MUSEUM, ids=lambda mutant: mutant.id)
def test_a_mutant_answers_every_eighth_rule(mutant: Mutant, cases_of_rules: list[tuple[Rule, LossCase]]) -> None:
    for rule, case in cases_of_rules[MUSEUM.index(mutant) % 8 :: 8]:
        with suppress(AssertionError, OutOfScope):  # a PortError comes through
            rule.check(PortUnderTest(mutant.port(ULTRALYTICS)), case)


@pytest.mark.thorough
def test_the_smallest_case_of_a_mutant_is_small() -> None:
    mutant = next(each for each in MUSEUM if each.id == "khub-missing-target-offset")
    rule = next(each for each in RULES if each.id == "INV-03")
    case = judge(rule, mutant.port(), level="smoke").case
    assert case is not None
    assert (case.images, case.queries) == (2, 1)
    assert case.targets <= 3


def test_every_family_of_rules_has_a_mutant() -> None:
    assert {mutant.family for mutant in MUSEUM} == set(FAMILIES)


def test_every_mutant_tells_its_story() -> None:
    assert all(mutant.story.endswith(".") and mutant.link for mutant in MUSEUM)
    assert len({mutant.id for mutant in MUSEUM}) == len(MUSEUM)


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_a_mutant_changes_any_spec_or_leaves_it_alone(spec) -> None:
    assert all(mutant.of(spec).name == spec.name for mutant in MUSEUM)


def test_a_mutant_leaves_a_spec_alone_that_has_no_such_part() -> None:
    mutant = next(each for each in MUSEUM if each.id == "plausible-focal-alpha-swapped")
    assert mutant.of(FAMILY["detr"]) is FAMILY["detr"]
    assert mutant.changes(FAMILY["detr"]) == []
    assert mutant.changes(FAMILY["deformable"]) == ["class_terms.focal.weight"]
