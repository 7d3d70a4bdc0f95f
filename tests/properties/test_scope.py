"""What each rule judges at level standard, and what it leaves to others: as `scope.json` says.

A guard that is gone would let a rule judge what it cannot, and accuse correct ports; none of the museum's would notice.
To record anew, after a change that is meant: `python -m tests.properties.test_scope`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.rules import RULES

from ..thorough import thorough_but
from .sample_cases import grid_of_boxes, grid_of_logits, home_of, small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # thousands of calls of the reference

RECORD = Path(__file__).with_name("scope.json")
RECORDED = json.loads(RECORD.read_text())


def scope(rule):
    """On how many cases the rule holds, for which reasons it leaves cases out, and whether it reports a budget.

    Without large cases, each of which takes as long as a hundred of the others.
    """
    reasons = set()

    def check(judged, case):
        try:
            rule.check(judged, case)
        except OutOfScope as reason:
            reasons.add(str(reason))
            raise

    drawn = replace(rule, check=check, request=replace(rule.request, large=False))
    outcome = judge(drawn, home_of(rule).port, level="standard")
    return {"judged": outcome.examples, "left out": sorted(reasons), "budget": outcome.share is not None}


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_judges_what_it_can_and_nothing_else(rule):
    assert scope(rule) == RECORDED[rule.id]


WITH_GUARDS = [rule for rule in RULES if RECORDED.get(rule.id, {}).get("left out")]


@pytest.mark.parametrize("rule", thorough_but(WITH_GUARDS[::6], WITH_GUARDS), ids=lambda rule: rule.id)
def test_each_reason_for_which_a_rule_leaves_cases_out_comes_up(rule):
    missing = set(RECORDED[rule.id]["left out"])

    def check(judged, case):
        try:
            rule.check(judged, case)
        except OutOfScope as reason:
            missing.discard(str(reason))
            if not missing:
                raise AssertionError("each has come up") from None
            raise

    drawn = replace(rule, check=check, request=replace(rule.request, large=False))
    outcome = judge(drawn, home_of(rule).port, level="standard", shrink=False)
    assert outcome.message == "each has come up", f"never: {missing}"


ONE_QUERY = small_case(pred_bboxes=grid_of_boxes(2, 3, 1), pred_scores=grid_of_logits(2, 3, 1, 2), denoising=None)
ONLY_GIVEN = {  # what no drawn case is like, and one that a user gives may be
    "INV-06": (small_case(), "an image without targets has a loss, but no weight"),
    "INV-08": (ONE_QUERY, "rounding decides who is matched with whom"),
    "MATCH-13": (small_case(), "only small problems of L1 costs"),
}


@pytest.mark.parametrize("name", ONLY_GIVEN)
def test_a_rule_leaves_out_what_a_user_may_give(name):
    case, reason = ONLY_GIVEN[name]
    with pytest.raises(OutOfScope, match=reason):
        RULE[name].check(PortUnderTest(ReferencePort()), case)


if __name__ == "__main__":
    RECORD.write_text(json.dumps({rule.id: scope(rule) for rule in RULES}, indent=1) + "\n")
