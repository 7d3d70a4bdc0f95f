"""The rules as tests in a port's own test file, in the manner of scikit-learn's `parametrize_with_checks`."""

from __future__ import annotations

import os
from typing import cast

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.coco import read_targets
from detr_conformance.errors import visible
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.levels import EXAMPLES, Level
from detr_conformance.properties.port import Port, check_port
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.report import FAILED


class RuleCheck:
    """One rule to judge a port by; a test calls it.

    Attributes:
        judgement: the port, and what it is tried on.
        rule: the rule.
        outcome: what came out, once it has been called.
    """

    def __init__(self, judgement: CheckPlan, rule: Rule) -> None:
        """Nothing is judged yet."""
        self.judgement = judgement
        self.rule = rule
        self.outcome: RuleResult | None = None

    def __call__(self) -> None:
        """Judge.

        Raises:
            AssertionError: the port breaks the rule, or gave no answer.
            pytest.skip.Exception: the port does not declare what the rule needs.
            pytest.xfail.Exception: the rule is a SHOULD, and the port breaks it.
        """
        __tracebackhide__ = True
        self.outcome = self.judgement.judge(self.rule)
        if self.outcome is None or self.outcome.verdict == "pass":
            return
        if self.outcome.verdict == "unsupported":
            pytest.skip(f"{self.rule.id} {self.rule.title}: {self.outcome.message}")
        message = visible(self.outcome.message)
        if self.rule.obligation == "SHOULD":
            pytest.xfail(f"remark: {self.rule.id} {self.rule.title}: {message}")
        raise AssertionError(f"{self.rule.id} {self.rule.title}: {self.rule.statement}\n{message}")

    @property
    def said(self) -> str:
        """What is counted at the end of a session: the verdict, or that a SHOULD does not hold."""
        verdict = "" if self.outcome is None else self.outcome.verdict
        return "remark" if self.rule.obligation == "SHOULD" and verdict in FAILED else verdict

    def __repr__(self) -> str:
        return f"<rule {self.rule.id} for {self.judgement.port.name}>"


def parametrize_with_rules(
    port: Port,
    *,
    profile: LossSpec | str | None = None,
    level: str = "standard",
    seed: int = 0,
    targets: str | os.PathLike[str] | None = None,
) -> pytest.MarkDecorator:
    """Make a test function run once for each rule.

    What the port does not declare is skipped with the reason, and counted in a line at the end of the session.

    Example:
        @parametrize_with_rules(MyPort())
        def test_conforms(rule):
            rule()

    Args:
        port: the port to judge.
        profile: the conventions to hold it to; by default those that it names.
        level: smoke, standard or exhaustive.
        seed: another one draws other cases.
        targets: a COCO annotations file, to judge on the boxes of its images as well.

    Returns:
        A decorator for a test function with an argument named `rule`.

    Raises:
        TypeError: the port lacks something that it must have.
        ValueError: there is no such profile or level, or the targets cannot be used.
    """
    port = check_port(port)
    if level not in EXAMPLES:
        raise ValueError(f"level is {level!r}, expected one of {', '.join(EXAMPLES)}")
    chosen = port.profile if profile is None else profile
    if isinstance(chosen, str) and chosen not in FAMILY:
        raise ValueError(f"profile is {chosen!r}, expected one of {', '.join(FAMILY)}")
    judgement = CheckPlan(
        port,
        FAMILY[chosen] if isinstance(chosen, str) else chosen,
        cast("Level", level),
        None if targets is None else read_targets(targets),
        seed=seed,
    )
    return pytest.mark.parametrize(
        "rule", [pytest.param(RuleCheck(judgement, rule), id=rule.id) for rule in judgement.rules]
    )
