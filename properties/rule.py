"""Rule: one property that every correct port has, and the sentence that says so."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import OFFERS, options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import heeds
from detr_conformance.properties.request import Request
from detr_conformance.properties.verdict_words import Obligation
from detr_conformance.reference import LossSpec

Check = Callable[[PortUnderTest, LossCase], None]
Listing = Callable[[str, str], Iterable[LossCase]]
"""Cases one by one, for a level and a classification loss that the port has."""
Made = Callable[[Request, PortUnderTest, str, int], Iterable[LossCase]]
"""Cases one by one, for a request, a port, a level and a seed."""

FAMILIES = {
    "BOX": "boxes and IoU",
    "MATCH": "matching optimality",
    "CLASS": "classification loss",
    "REG": "box loss",
    "MASK": "losses of masks",
    "AUX": "layers",
    "DN": "denoising",
    "DIST": "distributions of box sides",
    "INV": "invariances",
    "GRAD": "gradients and stop-gradients",
    "RANK": "ranks and micro-batches",
    "NUM": "dtypes, extremes, bad input",
    "API": "shapes, keys, purity, determinism",
}


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: family and number, such as MATCH-03; never reused.
        title: a few words for tables.
        statement: the normative sentence.
        source: where it is said: paper and equation, or a section of the loss specification.
        added: version of the suite that brought it.
        needs: capabilities and dtypes that a port must declare.
        convention: the convention that the rule is about, if a spec may leave it undefined.
        among: whether a spec has what the rule is about.
        varies: options that the rule sets itself; a port that restricts one cannot be judged by it.
        request: the cases it is checked on.
        listing: every case there is, where they are so few that they are listed instead of drawn.
        cases: makes the cases, where they depend on what the port can be asked for and are not drawn either.
        check: raises AssertionError, with a message for the port's maintainer, where a case breaks the rule.
        reason: why it is a SHOULD and no MUST; None for a MUST.
    """

    id: str
    title: str
    statement: str
    source: str
    added: str
    needs: frozenset[str]
    convention: str | None
    among: Callable[[LossSpec], bool]
    varies: frozenset[str]
    request: Request
    listing: Listing | None
    cases: Made | None
    check: Check
    reason: str | None = None

    @property
    def obligation(self) -> Obligation:
        """MUST is what a correct training step needs, SHOULD what a careful implementation gives (RFC 2119)."""
        return "MUST" if self.reason is None else "SHOULD"

    @property
    def family(self) -> str:
        """The part of the id before the dash; see `FAMILIES`."""
        return self.id.split("-")[0]

    def demands(self, judged: PortUnderTest) -> dict[str, bool]:
        """What a port of this spec has to declare for the rule to be checked, and whether this one does."""
        has = judged.capabilities | judged.port.dtypes
        any_of = self._classification(judged.spec)
        demands = {name: name in has for name in sorted(self.needs)}
        demands |= {f"a choice of {name}": name not in options_of(judged.port) for name in sorted(self.varies)}
        return demands | {" or ".join(sorted(any_of)): bool(any_of & has)}

    def missing(self, judged: PortUnderTest) -> list[str]:
        """What the port would have to declare for the rule to be checked."""
        return [what for what, is_declared in self.demands(judged).items() if not is_declared]

    def applies(self, judged: PortUnderTest) -> bool:
        """Whether the port's spec defines what the rule is about, and leaves the options that it sets to the caller."""
        spec = judged.spec
        asked = {*self.needs, self.convention}
        if (self.needs & OFFERS) - judged.capabilities:
            return False
        defined = not asked & spec.undefined.keys() and self.among(spec) and bool(self._classification(spec))
        return defined and all(heeds(spec, option) for option in self.varies)

    def _classification(self, spec: LossSpec) -> set[str]:
        """Classification losses of the spec, one of which the port must have."""
        terms = {name: term for name, term in spec.class_terms.items() if name in self.request.classification}
        return {name for name, term in terms.items() if term.probe is not None or not self.request.readable_score}


def rule(  # noqa: PLR0913  # all that a rule says of itself, by keyword
    id: str,  # noqa: A002  # what it is called everywhere else
    *,
    source: str,
    request: Request,
    needs: Iterable[str] = (),
    convention: str | None = None,
    among: Callable[[LossSpec], bool] = lambda spec: True,  # noqa: ARG005  # any spec
    varies: Iterable[str] = (),
    listing: Listing | None = None,
    cases: Made | None = None,
    added: str = "0.1",
    should: str | None = None,
) -> Callable[[Check], Rule]:
    """Turn a check into a rule: its name becomes the title, its docstring the statement.

    `should` is the reason why the rule is a SHOULD: why no training run by the specification's recipe is another one
    where it is broken. When in doubt, leave it out: the rule is a MUST then.
    """

    def decorate(check: Check) -> Rule:
        return Rule(
            id=id,
            title=check.__name__.replace("_", " "),
            statement=" ".join((inspect.getdoc(check) or "").split()),
            source=source,
            added=added,
            needs=frozenset(needs) | request.implied_needs,
            convention=convention,
            among=among,
            varies=frozenset(varies),
            request=request,
            listing=listing,
            cases=cases,
            check=_said_in_one_line(check),
            reason=should,
        )

    return decorate


def _said_in_one_line(check: Check) -> Check:
    """Without what pytest adds to a message: in a port's own suite it rewrites the assertions of all plugins."""

    @functools.wraps(check)
    def checked(port: PortUnderTest, case: LossCase) -> None:
        __tracebackhide__ = True
        try:
            check(port, case)
        except AssertionError as failure:
            failure.args = (str(failure).partition("\nassert ")[0],)
            raise

    return checked
