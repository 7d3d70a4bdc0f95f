"""Every rule is broken by some port: a rule that cannot fail says nothing."""

from __future__ import annotations

import pytest
from hypothesis import Phase

from detr_conformance.properties import run as running
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES

from .broken_ports import BROKEN

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # broken ports would not get past the checks of shapes


@pytest.fixture
def unshrunk(monkeypatch):
    """The first case that fails is as good as the smallest here, and found in a tenth of the time."""
    options = running.level_options
    monkeypatch.setattr(running, "level_options", lambda *which: options(*which) | {"phases": (Phase.generate,)})


def test_there_is_a_broken_port_for_every_rule() -> None:
    assert set(BROKEN) == {rule.id for rule in RULES}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_port_that_breaks_the_rule_is_failed(rule: Rule) -> None:
    outcome = running.run(rule, BROKEN[rule.id], level="smoke")
    assert outcome.verdict == "fail"
    assert outcome.message
    assert "\n" not in outcome.message
    assert outcome.case is not None
