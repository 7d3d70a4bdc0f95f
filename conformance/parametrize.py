"""The rules as tests in a port's own test file, in the manner of scikit-learn's `parametrize_with_checks`."""

from __future__ import annotations

import os

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.errors import UsageError
from detr_conformance.known_deviations import Known, apply
from detr_conformance.known_deviations_file import load
from detr_conformance.properties.levels import check_level
from detr_conformance.properties.port import Port, check_port
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.report import RuleEntry
from detr_conformance.reports.composing import entry_of
from detr_conformance.targets import read_targets


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
        self.outcome: RuleEntry | None = None

    def __call__(self) -> None:
        """Judge.

        Raises:
            AssertionError: the port breaks the rule, or gave no answer; or it is known to break it, and does not.
            pytest.skip.Exception: the port does not declare what the rule needs.
            pytest.xfail.Exception: the port breaks the rule, and is known to; or the rule is a SHOULD.
        """
        __tracebackhide__ = True
        outcome = self.judgement.judge(self.rule)
        if outcome is None:
            return
        entry = self.outcome = apply(entry_of(outcome), self.judgement.known)
        told = f"{entry.id} {entry.title}: {entry.message}"
        if entry.verdict == "unsupported":
            pytest.skip(told)
        if entry.is_remark:
            pytest.xfail(f"remark: {told}")
        if entry.verdict == "xfail":
            pytest.xfail(told)
        if entry.verdict != "pass":
            traced = "" if entry.raised is None else f"\n{entry.raised.traceback}"
            raise AssertionError(f"{entry.id} {entry.title}: {entry.statement}\n{entry.message}{traced}")

    @property
    def said(self) -> str:
        """What is counted at the end of a session: the verdict, or that a SHOULD does not hold."""
        if self.outcome is None:
            return ""
        return "remark" if self.outcome.is_remark else self.outcome.verdict

    def __repr__(self) -> str:
        return f"<rule {self.rule.id} for {self.judgement.port.name}>"


def parametrize_with_rules(
    port: Port,
    *,
    profile: LossSpec | str | None = None,
    level: str = "standard",
    seed: int = 0,
    targets: str | os.PathLike[str] | None = None,
    known_deviations: str | os.PathLike[str] | None = None,
) -> pytest.MarkDecorator:
    """Make a test function run once for each rule.

    What the port does not declare is skipped with the reason, and counted in a line at the end of the session. A rule
    that the port is known to break is an expected failure, as for `detr-conformance check`.

    Example:
        @parametrize_with_rules(MyPort())
        def test_conforms(rule):
            rule()

    Args:
        port: the port to judge.
        profile: the conventions to hold it to; by default those that it names.
        level: smoke, standard or exhaustive.
        seed: another one draws other cases.
        targets: a COCO annotations file, or a folder of YOLO label files, to judge on the boxes of its images as well.
        known_deviations: a TOML file of rules that the port is known to break; by default the list in the
            pyproject.toml of the current folder, if it has one.

    Returns:
        A decorator for a test function with an argument named `rule`.

    Raises:
        TypeError: the port lacks something that it must have.
        ValueError: there is no such profile or level, or the targets or the known deviations cannot be used.
    """
    port = check_port(port)
    chosen_level = check_level(level)
    chosen = port.profile if profile is None else profile
    if isinstance(chosen, str) and chosen not in FAMILY:
        raise ValueError(f"profile is {chosen!r}, expected one of {', '.join(FAMILY)}")
    judgement = CheckPlan(
        port,
        FAMILY[chosen] if isinstance(chosen, str) else chosen,
        chosen_level,
        None if targets is None else read_targets(targets),
        seed=seed,
        known=_known(known_deviations, port),
    )
    return pytest.mark.parametrize(
        "rule", [pytest.param(RuleCheck(judgement, rule), id=rule.id) for rule in judgement.rules]
    )


def _known(path: str | os.PathLike[str] | None, port: Port) -> Known:
    try:
        return load(None if path is None else os.fspath(path), port)
    except UsageError as error:
        raise ValueError(str(error)) from error
