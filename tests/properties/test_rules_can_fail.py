"""Every rule is broken by some port: a rule that cannot fail says nothing."""

from __future__ import annotations

import pytest

from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.run import run

from .broken_ports import BROKEN

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # broken ports would not get past the checks of shapes


def test_there_is_a_broken_port_for_every_rule() -> None:
    assert set(BROKEN) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_port_that_breaks_the_rule_is_failed(rule: Rule) -> None:
    outcome = run(rule, BROKEN[rule.id], level="standard", shrink=False)
    assert outcome.verdict == "fail"
    assert outcome.message
    assert "\n" not in outcome.message
    assert outcome.case is not None
