"""The rules as a whole: complete, well-formed, and never wrong about the reference."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import CAPABILITIES
from detr_conformance.properties.rule import FAMILIES, Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.tolerance import PRECISIONS

from ..thorough import thorough_but
from .sample_cases import home_of


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_reference_passes(rule: Rule) -> None:
    assert_pass(rule)


@pytest.mark.skipif(not os.environ.get("CHECK_SHAPES"), reason="tests/test_shapes.py runs it, where shapes are checked")
@pytest.mark.parametrize("rule", thorough_but(RULES[::100], RULES), ids=lambda rule: rule.id)
def test_shapes_are_as_annotated_where_the_reference_is_judged(rule: Rule) -> None:
    assert_pass(rule)


def assert_pass(rule: Rule) -> None:
    outcome = judge(rule, home_of(rule).port, level="smoke")
    assert (outcome.verdict, outcome.message) == ("pass", "")
    assert outcome.examples > 0


def test_every_family_has_at_least_three_rules() -> None:
    counts = Counter(rule.family for rule in RULES)
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) >= 3


def test_ids_are_unique_and_numbered() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"[A-Z]+-\d\d", rule.id) for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_says_what_it_means_and_where_that_is_said(rule: Rule) -> None:
    assert rule.statement.endswith(".")
    assert rule.source
    assert rule.needs <= set(CAPABILITIES) | set(PRECISIONS)


def test_a_rule_is_a_must_unless_it_says_why_not() -> None:
    should = {rule.id for rule in RULES if rule.obligation == "SHOULD"}
    of_api = {"API-09", "API-11", "API-15", "API-16", "API-20", "API-24"}
    assert should == of_api | {"GRAD-09", "MATCH-26", "NUM-05", "NUM-14", "NUM-15", "NUM-16"}
    assert all((rule.reason is None) == (rule.obligation == "MUST") for rule in RULES)


@pytest.mark.parametrize("generate", [True, False])
def test_a_level_that_does_not_exist_is_refused(generate: bool) -> None:
    with pytest.raises(ValueError, match=r"level is 'fast', expected one of smoke, standard, exhaustive"):
        judge(RULES[0], ReferencePort(), level="fast", generate=generate)


def test_what_a_port_does_not_declare_is_unsupported() -> None:
    port = ReferencePort()
    port.capabilities = frozenset({"varifocal"})
    of_matching = [rule for rule in RULES if "match" in rule.needs]
    assert {judge(rule, port, level="smoke").verdict for rule in of_matching} == {"unsupported"}
    assert len(of_matching) > 10
