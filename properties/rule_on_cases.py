"""One rule being checked against one port, case by case, down to the smallest case that fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import Pool, pool
from detr_conformance.properties.extreme_sizes import extreme_cases
from detr_conformance.properties.failure_kinds import Kind, SmallCases, kind_of
from detr_conformance.properties.given_case import refusal
from detr_conformance.properties.levels import PATIENCE, wanted
from detr_conformance.properties.place import Raised
from detr_conformance.properties.port_under_test import OutOfScope, PortError, PortUnderTest
from detr_conformance.properties.rule import Listing, Rule
from detr_conformance.properties.smaller_cases import smallest
from detr_conformance.properties.transforms import select_images
from detr_conformance.properties.verdict_words import Verdict
from detr_conformance.properties.working import domain_for


class NothingToJudge(Exception):  # noqa: N818  # no error of the port's
    """No case could be drawn on which the rule can be checked."""


class RuleOnCases:
    """One rule being checked against one port; remembers on how many cases it held, and the last one that failed.

    Whoever looks for a smaller case checks the smallest last, so the last one is the one to report.

    Args:
        rule: the rule.
        judged: the port.
        shrink: look for the smallest case that fails.
        small: those found for other rules.

    Attributes:
        earlier: the first and the last case that were checked before the one that failed.
        last_raised: what the port raised when the rule was last broken, if it did.
    """

    def __init__(self, rule: Rule, judged: PortUnderTest, shrink: bool = True, small: SmallCases | None = None) -> None:
        """Start with nothing seen."""
        self.rule = rule
        self.judged = judged
        self.shrink = shrink
        self.small = SmallCases() if small is None else small
        self._kinds: list[Kind | None] = []
        self.examples = 0
        self.failing: LossCase | None = None
        self.earlier: tuple[LossCase, ...] = ()
        self._first: LossCase | None = None
        self._last: LossCase | None = None
        self.last_verdict: Verdict = "error"
        self.last_message = ""
        self.last_raised: Raised | None = None

    def check(self, case: LossCase) -> None:
        """Check the rule on one case.

        Raises:
            AssertionError: the port breaks the rule.
            PortError: it gave no answer.
            OutOfScope: the rule cannot judge this case.
        """
        before = (self._first, self._last)
        self._first, self._last = self._first or case, case
        try:
            self.rule.check(self.judged, case)
        except (AssertionError, PortError) as failure:
            self.failing, self.last_message = case, str(failure)
            self.earlier = tuple(dict.fromkeys(each for each in before if each is not None))
            self.last_verdict = "fail" if isinstance(failure, AssertionError) else "error"
            self.last_raised = failure.raised if isinstance(failure, PortError) else None
            raise

    def on_own_cases(self, level: str, seed: int) -> None:
        """Check the rule on the cases that it asks for, lists or makes, and make the first that fails smaller."""
        domain = domain_for(self.rule.request, self.judged)
        if self.rule.cases is not None:
            self._on_made_cases(self.rule.cases(self.rule.request, self.judged, level, seed))
        elif self.rule.listing is None:
            self._on_drawn_cases(pool(self.rule.request, domain, seed), wanted(level, self.rule.request))
            self._on_made_cases(extreme_cases(self.rule, self.judged, level, seed))
        else:
            kind = min(domain.working & set(self.rule.request.classification))
            self._on_listed_cases([domain.allowed(each) for each in _listed(self.rule.listing, level, kind)])

    def _on_drawn_cases(self, drawn: Pool, number: int) -> None:
        for case in islice(drawn, PATIENCE * number):
            with suppress(OutOfScope):
                self._check_or_shrink(case, drawn)
                self.examples += 1
            if self.examples == number:
                return
        if self.examples == 0:
            raise NothingToJudge("no case could be drawn on which the rule can be checked")

    def _check_or_shrink(self, case: LossCase, drawn: Pool) -> None:
        try:
            self.check(case)
        except (AssertionError, PortError) as failure:
            if not self.shrink:
                raise
            self._show_on_a_case_made_small_before(failure)
            drawn.shrink(case, self._check_if_possible)
            raise AssertionError(f"the port answers differently when asked again: {self.last_message}") from None

    def _show_on_a_case_made_small_before(self, failure: AssertionError | PortError) -> None:
        """Where a rule has failed so before, fail on its small case if that breaks this rule too, or else as it is."""
        kind = kind_of(self.last_message, self.last_raised, isinstance(failure, AssertionError))
        small = self.small.of(kind)
        if small is None:
            self._kinds.append(kind)
            return
        if self._may_be_checked(small):
            with suppress(OutOfScope):
                self.check(small)
        raise failure

    def keep_small(self) -> None:
        """Keep the case that the rule has failed on for other rules that fail so."""
        if self.failing is not None:
            last = kind_of(self.last_message, self.last_raised, self.last_verdict == "fail")
            for kind in (*self._kinds, last):
                self.small.keep(kind, self.failing)

    def _check_if_possible(self, case: LossCase) -> None:
        with suppress(OutOfScope):
            self.check(case)

    def _on_made_cases(self, cases: Iterable[LossCase]) -> None:
        for case in cases:
            with suppress(OutOfScope):
                self._check_or_make_smaller(case)
                self.examples += 1

    def _check_or_make_smaller(self, case: LossCase) -> None:
        try:
            self.check(case)
        except (AssertionError, PortError) as failure:
            if not self.shrink:
                raise
            self._show_on_a_case_made_small_before(failure)
            self.check(smallest(case, self._fails_too))
            raise AssertionError(f"the port answers differently when asked again: {self.last_message}") from None

    def _fails_too(self, case: LossCase) -> bool:
        """Whether the rule may be checked on a case, and does not hold there."""
        return self._may_be_checked(case) and not self._holds(case)

    def _may_be_checked(self, case: LossCase) -> bool:
        return self.rule.request.fits(case) and not refusal(case, self.judged)

    def _on_listed_cases(self, cases: Sequence[LossCase]) -> None:
        for case in cases:
            if not self._holds(case):
                self.check(self._fewest_images(case) if self.shrink else case)
                raise AssertionError(f"the port answers differently when asked again: {self.last_message}")
            self.examples += 1

    def _fewest_images(self, case: LossCase) -> LossCase:
        """A failing case without images that it does not take for failing."""
        half = (case.images + 1) // 2
        parts = (range(half), range(half, case.images), range(1, case.images), range(case.images - 1))
        for part in parts if case.images > 1 else ():
            smaller = select_images(case, list(part))
            if smaller.images < case.images and not self._holds(smaller):
                return self._fewest_images(smaller)
        return case

    def _holds(self, case: LossCase) -> bool:
        try:
            self._check_if_possible(case)
        except (AssertionError, PortError):
            return False
        return True

    def on_given_cases(self, cases: Iterable[LossCase]) -> None:
        """Check the rule on these cases, except those that it cannot judge."""
        for case in cases:
            with suppress(OutOfScope):
                self.check(case)
                self.examples += 1


@lru_cache(maxsize=8)
def _listed(listing: Listing, level: str, classification: str) -> tuple[LossCase, ...]:
    """The cases of a rule that lists them; kept, as the rule is asked for one port after the other."""
    return tuple(listing(level, classification))
