"""Running one rule against one port: from a rule to a verdict with a minimal counterexample."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, settings
from hypothesis.errors import Flaky, Unsatisfiable

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged, OutOfScope, PortError, PortTimeout
from detr_conformance.properties.port import Port
from detr_conformance.properties.profiles import Profile
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.strategies import Domain, loss_cases
from detr_conformance.properties.transforms import select_images

VERDICTS = ("pass", "fail", "error", "unsupported", "xfail", "stale")

EXAMPLES = {"smoke": 5, "standard": 30, "exhaustive": 400}
"""How many cases each rule is checked on, by level."""

CHEAP = 5
"""A rule whose cases are cheap is checked on so many times more."""


@dataclass(frozen=True)
class Outcome:
    """What came of one rule.

    Attributes:
        rule: the rule.
        verdict: pass, fail, error or unsupported.
        message: why, for the port's maintainer; empty for a pass.
        examples: how many cases were checked.
        share: the largest share of an error budget that was used, 0 to 1 in a pass; None if the rule has no budget.
        case: the smallest case found that shows a failure.
    """

    rule: Rule
    verdict: str
    message: str = ""
    examples: int = 0
    share: float | None = None
    case: LossCase | None = None


def level_options(level: str, rule: Rule) -> dict[str, Any]:
    """Every field of Hypothesis' settings for a level: same port, same cases, same verdict."""
    return {
        "max_examples": EXAMPLES[level] * (CHEAP if rule.request.cheap else 1),
        "derandomize": True,
        "database": None,
        "deadline": None,
        "phases": (Phase.generate, Phase.shrink),
        "stateful_step_count": 1,
        "report_multiple_bugs": False,
        "suppress_health_check": tuple(HealthCheck),
        "verbosity": Verbosity.quiet,
        "print_blob": False,
        "backend": "hypothesis",
    }


def run(
    rule: Rule,
    port: Port,
    profile: Profile | None = None,
    level: str = "standard",
    real_cases: Iterable[LossCase] = (),
    generate: bool = True,
) -> Outcome:
    """Judge a port by one rule.

    Args:
        rule: the rule.
        port: the port.
        profile: the conventions to hold it to; by default those that it names.
        level: smoke, standard or exhaustive.
        real_cases: further cases to check, after the drawn ones.
        generate: draw cases at all; False checks `real_cases` alone.

    Returns:
        The outcome. Whatever the port raises becomes part of it.
    """
    judged = Judged(port, profile)
    missing = rule.missing(judged)
    if missing:
        return Outcome(rule, "unsupported", f"the port does not declare {', '.join(missing)}")
    trial = Trial(rule, judged)
    try:
        if generate and rule.listing is None:
            trial.on_drawn_cases(level)
        elif generate:
            trial.on_listed_cases(level)
        trial.on_given_cases(real_cases)
    except AssertionError as failure:
        return trial.outcome("fail", str(failure))
    except (PortError, PortTimeout) as failure:
        return trial.outcome("error", str(failure))
    except Flaky:
        return trial.outcome("fail", f"the port answers differently when asked again: {trial.last_message}")
    except Unsatisfiable:
        return trial.outcome("error", "no case could be drawn on which the rule can be checked")
    return trial.outcome("pass", "")


class Trial:
    """One rule being checked against one port; remembers how many cases it saw, and the last one that failed.

    Hypothesis runs the smallest failing case last, so the last one is the one to report.
    """

    def __init__(self, rule: Rule, judged: Judged) -> None:
        """Start with nothing seen."""
        self.rule = rule
        self.judged = judged
        self.examples = 0
        self.failing: LossCase | None = None
        self.last_message = ""

    def __call__(self, case: LossCase) -> None:
        """Check the rule on one case."""
        try:
            self.rule.check(self.judged, case)
        except (AssertionError, PortError, PortTimeout) as failure:
            self.failing, self.last_message = case, str(failure)
            raise
        self.examples += 1

    def on_drawn_cases(self, level: str) -> None:
        """Check the rule on cases drawn by Hypothesis, and shrink the first that fails."""

        @settings(**level_options(level, self.rule))
        @given(loss_cases(self.rule.request, Domain.of(self.judged)))
        def rule_holds(case: LossCase) -> None:
            try:
                self(case)
            except OutOfScope:
                reject()

        rule_holds()

    def on_listed_cases(self, level: str) -> None:
        """Check the rule on every case that it lists, and cut the first that fails down to as few images as will do."""
        assert self.rule.listing is not None  # noqa: S101  # whoever calls has looked
        possible = Domain.of(self.judged).classification & set(self.rule.request.classification)
        for case in self.rule.listing(level, min(possible)):
            if not self._passes(case):
                self.failing = self._fewest_images(case)
                self(self.failing)
                raise AssertionError("the port answers differently when asked again")
            self.examples += 1

    def _fewest_images(self, case: LossCase) -> LossCase:
        """A failing case without images that it does not take for failing."""
        half = (case.images + 1) // 2
        parts = (range(half), range(half, case.images), range(1, case.images), range(case.images - 1))
        for part in parts if case.images > 1 else ():
            smaller = select_images(case, list(part))
            if smaller.images < case.images and not self._passes(smaller):
                return self._fewest_images(smaller)
        return case

    def _passes(self, case: LossCase) -> bool:
        try:
            self.rule.check(self.judged, case)
        except OutOfScope:
            return True
        except (AssertionError, PortError):
            return False
        return True

    def on_given_cases(self, cases: Iterable[LossCase]) -> None:
        """Check the rule on these cases, except those that it cannot judge."""
        for case in cases:
            with suppress(OutOfScope):
                self(case)

    def outcome(self, verdict: str, message: str) -> Outcome:
        """The outcome with what was seen."""
        case = self.failing if verdict in ("fail", "error") else None
        return Outcome(self.rule, verdict, message, self.examples, self.judged.largest_share, case)
