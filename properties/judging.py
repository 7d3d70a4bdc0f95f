"""Judging a port by one rule: a verdict with a minimal counterexample."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from hypothesis.errors import Flaky

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.failure_kinds import Kind, SmallCases, kind_of
from detr_conformance.properties.given_case import refusal
from detr_conformance.properties.levels import check_level
from detr_conformance.properties.place import Raised
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortError, PortTimeout, PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rule_on_cases import NothingToJudge, RuleOnCases
from detr_conformance.properties.verdict_words import Verdict
from detr_conformance.reference import LossSpec


@dataclass(frozen=True)
class RuleResult:
    """What came of one rule.

    Attributes:
        rule: the rule.
        verdict: pass, fail, error or unsupported.
        message: why, for the port's maintainer; empty for a pass.
        examples: how many cases the rule held on.
        share: the largest share of an error budget that was used, 0 to 1 in a pass; None if the rule has no budget.
        case: the smallest case found that shows a failure.
        earlier: the first and the last case that were checked before that one. A port that keeps something from one
            call to the next may fail only after them.
        raised: what the port raised, if that is why.
    """

    rule: Rule
    verdict: Verdict
    message: str = ""
    examples: int = 0
    share: float | None = None
    case: LossCase | None = None
    earlier: tuple[LossCase, ...] = ()
    raised: Raised | None = None

    @property
    def kind(self) -> Kind | None:
        """What a failure has in common with others."""
        return kind_of(self.message, self.raised, self.verdict == "fail")


def judge(
    rule: Rule,
    port: Port,
    profile: LossSpec | None = None,
    level: str = "standard",
    seed: int = 0,
    real_cases: Iterable[LossCase] = (),
    generate: bool = True,
    shrink: bool = True,
    earlier: Iterable[LossCase] = (),
    small: SmallCases | None = None,
) -> RuleResult:
    """Judge a port by one rule.

    Args:
        rule: the rule.
        port: the port.
        profile: the conventions to hold it to; by default those that it names.
        level: smoke, standard or exhaustive.
        seed: another one draws other cases.
        real_cases: further cases to check, after the drawn ones.
        generate: draw cases at all; False checks `real_cases` alone.
        shrink: look for the smallest case that fails; False reports the first.
        earlier: cases whose loss is asked for first, and not judged.
        small: the smallest cases found for other rules, by kind of failure: those are not looked for again.

    Returns:
        The outcome. Whatever the port raises becomes part of it.

    Raises:
        ValueError: there is no such level, or no profile of the name that the port gives.
        TypeError: what the port has as its keys is no table of keys.
    """
    check_level(level)
    judged = PortUnderTest(port, profile)
    missing = rule.missing(judged)
    if missing:
        return RuleResult(rule, "unsupported", f"the port does not declare {', '.join(missing)}")
    ask_first(port, earlier)
    trial = RuleOnCases(rule, judged, shrink, small)
    verdict, message = _verdict(trial, level, seed, real_cases, generate)
    if shrink and verdict in ("fail", "error"):
        trial.keep_small()
    raised = trial.last_raised if verdict == "error" else None
    share = judged.largest_share
    return RuleResult(rule, verdict, message, trial.examples, share, trial.failing, trial.earlier, raised)


def judge_on(case: LossCase, rule: Rule, port: Port, profile: LossSpec, earlier: Iterable[LossCase] = ()) -> RuleResult:
    """Judge a port by one rule on a case that somebody brings, and on no other.

    Args:
        case: the case; a port that does not declare what it asks for is `unsupported`.
        rule: the rule.
        port: the port.
        profile: the conventions to hold it to.
        earlier: cases whose loss is asked for first, and not judged.
    """
    reason = refusal(case, PortUnderTest(port, profile))
    if reason:
        return RuleResult(rule, "unsupported", reason)
    return judge(rule, port, profile, real_cases=[case], generate=False, earlier=earlier)


def ask_first(port: Port, cases: Iterable[LossCase]) -> None:
    """Ask for the loss of these cases; what comes of it is of no interest, but a port may keep something of it."""
    for case in cases:
        with suppress(Exception):
            port.loss(case)


def _verdict(
    trial: RuleOnCases, level: str, seed: int, real_cases: Iterable[LossCase], generate: bool
) -> tuple[Verdict, str]:
    """The verdict, and why."""
    try:
        if generate:
            trial.on_own_cases(level, seed)
        trial.on_given_cases(real_cases)
    except AssertionError as failure:
        return "fail", str(failure)
    except Flaky:
        return "fail", f"the port answers differently when asked again: {trial.last_message}"
    except PortTimeout as timeout:
        # A failure that was still being made smaller is one all the same.
        return (trial.last_verdict, trial.last_message) if trial.failing is not None else ("error", str(timeout))
    except (PortError, NothingToJudge) as failure:
        return "error", str(failure)
    return "pass", ""
