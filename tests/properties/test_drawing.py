"""Which cases a rule sees depends on the request and the seed, and on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.drawing import Pool, pool
from detr_conformance.properties.extreme_sizes import extreme_cases
from detr_conformance.properties.judging import judge
from detr_conformance.properties.levels import EXAMPLES, wanted
from detr_conformance.properties.port_under_test import PortTimeout, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import Domain

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

RULE = {rule.id: rule for rule in RULES}
PROGRAM = """
from itertools import islice
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
print([case._digest.hex() for case in islice(pool(Request(), Domain(), 7), 20)])
"""


def first(number, request=Request(), seed=0, domain=Domain()):  # noqa: B008  # frozen
    return list(islice(Pool(request, domain, seed), number))


def test_the_same_seed_draws_the_same_cases():
    assert first(20) == first(20)
    assert first(5) == first(20)[:5]


def test_another_seed_or_another_request_draws_others():
    assert not set(first(20)) & set(first(20, seed=1))
    assert not set(first(20)) & set(first(20, Request(layers=(1, 3))))


def test_everybody_who_asks_for_the_same_shares_the_cases():
    assert next(iter(pool(Request(), Domain(), 3))) is next(iter(pool(Request(), Domain(), 3)))


def test_the_cases_do_not_depend_on_what_else_is_loaded(tmp_path):
    # Hypothesis draws numbers that it finds in the modules of a project now and then.
    (tmp_path / "project.py").write_text(f"NUMBERS = {list(range(1000))}\n")
    here = [case._digest.hex() for case in first(20, seed=7)]
    for program in (PROGRAM, f"import project\n{PROGRAM}"):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        printed = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert printed.stdout.strip() == str(here)


def test_a_failing_case_is_made_as_small_as_can_be():
    seen = []

    def fails(case):
        seen.append(case)
        assert case.targets < 2

    cases = Pool(Request(), Domain(), 0)
    with pytest.raises(AssertionError):
        cases.shrink(next(case for case in cases if case.targets >= 2), fails)
    smallest = seen[-1]
    assert (smallest.images, smallest.layers, smallest.queries, smallest.targets) == (1, 1, 1, 2)


def test_making_smaller_what_does_not_fail_again_raises_nothing():
    cases = Pool(Request(), Domain(), 0)
    cases.shrink(next(iter(cases)), lambda _: None)


def test_a_rule_with_cheap_cases_sees_more():
    assert wanted("smoke", Request()) == EXAMPLES["smoke"]
    assert wanted("smoke", Request(cheap=True)) > EXAMPLES["smoke"]


@pytest.mark.parametrize("rule", ["BOX-01", "MATCH-01", "AUX-01", "NUM-03"])
def test_a_rule_is_checked_on_as_many_cases_as_the_level_says_and_on_those_at_the_ends_of_sizes(rule):
    outcome, judged = judge(RULE[rule], ReferencePort(), level="smoke"), PortUnderTest(ReferencePort())
    more = sum(
        RULE[rule].family == "MATCH" or oracle.matching_is_certain(case, judged.spec)
        for case in extreme_cases(RULE[rule], judged, "smoke", 0)
    )
    assert (outcome.verdict, outcome.examples) == ("pass", wanted("smoke", RULE[rule].request) + more)


class SlowToShrink(ReferencePort):
    """Its losses are wrong, and when it has been asked a few times it hangs."""

    calls = 0

    def loss(self, case):
        self.calls += 1
        if self.calls > 6:
            raise PortTimeout("no answer")
        return super().loss(case.change(pred_scores=-case.pred_scores))


def test_a_failure_that_takes_too_long_to_make_smaller_is_still_a_failure():
    outcome = judge(RULE["NUM-01"], SlowToShrink(name="slow"), level="smoke")
    assert outcome.verdict == "fail"
    assert "expected" in outcome.message
    assert outcome.case is not None
