"""Which classification losses of a port work: rules that are about something else ask for no others."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from weakref import WeakKeyDictionary

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import OutOfScope, PortError, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import LossSpec

WITH_TARGETS = Request(layers=(1, 2), images=(1, 2), queries=(2, 5), targets=(1, 2), special=())
"""Cases that any loss can do."""
WITHOUT_TARGETS = replace(WITH_TARGETS, all_empty=True)
"""Here another classification loss may take the place of the one that is asked for."""
CASES = 2
"""So many of either for each classification loss."""

_FOUND: WeakKeyDictionary[Port, dict[LossSpec, frozenset[str]]] = WeakKeyDictionary()


def domain_for(request: Request, judged: PortUnderTest) -> Domain:
    """What a port can be asked for by a rule with this request; it is not called for one that evaluates no loss."""
    domain = Domain.of(judged)
    return domain if request.cheap else working(judged, domain)


def working(judged: PortUnderTest, domain: Domain) -> Domain:
    """The domain with the classification losses that work.

    If none does, with those that work in batches with targets; with all of them if none does that.
    """
    try:
        known = _FOUND.setdefault(judged.port, {})
    except TypeError:  # a port that cannot be looked up is asked each time
        known = {}
    if judged.spec not in known:
        right = frozenset(kind for kind in sorted(domain.classification) if _works(judged, domain, kind, WITH_TARGETS))
        always = frozenset(kind for kind in sorted(right) if _works(judged, domain, kind, WITHOUT_TARGETS))
        known[judged.spec] = always or right or domain.classification
    return replace(domain, working=known[judged.spec])


def _works(judged: PortUnderTest, domain: Domain, kind: str, look: Request) -> bool:
    """Whether values are right, or nothing can be said."""
    fresh = PortUnderTest(judged.port, judged.spec)  # the budget that is used here is nobody's
    cases = pool(replace(look, classification=(kind,), about_class=True), domain, 0)
    return all(_is_right(fresh, case) for case in islice(cases, CASES))


def _is_right(judged: PortUnderTest, case: LossCase) -> bool:
    try:
        expected = judged.expected(case)
        judged.loss(case).assert_values(expected, [key for key in expected if "class" in key])
    except OutOfScope:
        return True
    except (AssertionError, PortError):
        return False
    return True
