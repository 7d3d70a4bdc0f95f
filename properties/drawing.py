"""Drawing cases: the same ones for every port and every rule that asks alike, wherever the suite runs.

Hypothesis' own engine takes numbers from the modules that are loaded, and goes on from what a test did with earlier
cases. Here every case is read from bytes of its own, which the request, the seed and the number of the case decide:
same seed, same cases, whoever is judged. The engine is asked only to make a failing case smaller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.database import InMemoryExampleDatabase

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain, loss_cases

BYTES = 1024
"""Several times what a case of the largest request is read from."""
ENGINE: dict[str, Any] = {
    "max_examples": 1,
    "derandomize": False,
    "deadline": None,
    "phases": (Phase.reuse, Phase.shrink),
    "stateful_step_count": 1,
    "report_multiple_bugs": False,
    "suppress_health_check": tuple(HealthCheck),
    "verbosity": Verbosity.quiet,
    "print_blob": False,
    "backend": "hypothesis",
}
"""Every field of Hypothesis' settings, but for the database."""

Check = Callable[[LossCase], None]
"""Raises where a case shows a failure."""


class Pool:
    """The cases of one request, drawn as they are asked for, and kept.

    Args:
        request: what the cases look like.
        domain: what the ports can be asked for that they are for.
        number: another one is another pool.
    """

    def __init__(self, request: Request, domain: Domain, number: int) -> None:
        """Nothing is drawn yet."""
        self.request = request
        self.domain = domain
        self.number = number
        self._drawn: list[LossCase] = []
        self._draw = self._test(self._drawn.append)

    def __iter__(self) -> Iterator[LossCase]:
        """All cases, without end."""
        for place in count():
            if place == len(self._drawn):
                self._draw.hypothesis.fuzz_one_input(self._bytes(place))
            yield self._drawn[place]

    def shrink(self, case: LossCase, check: Check) -> None:
        """Let Hypothesis look for the smallest case that fails as this one does; `check` sees it last.

        Raises:
            Exception: what `check` raises for the smallest case. Nothing is raised if this one does not fail again.
            hypothesis.errors.Flaky: a case failed, and then did not.
        """
        place = next(place for place, each in enumerate(self._drawn) if each is case)
        test = self._test(check)
        try:
            test.hypothesis.fuzz_one_input(self._bytes(place))
        except Exception:  # noqa: BLE001  # what fails here is in the test's database, where the engine takes it up
            test()

    def _bytes(self, place: int) -> bytes:
        """What the case at this place is read from."""
        key = f"{self.number} {place} {self.request.narrowed}"
        return random.Random(key).randbytes(BYTES)  # noqa: S311  # no secret

    def _test(self, check: Check) -> Any:  # noqa: ANN401  # Hypothesis has no type for its tests
        """A Hypothesis test of the cases that does not draw by itself, only from bytes and from its own database."""

        @settings(**ENGINE, database=InMemoryExampleDatabase())  # goes first: a seed alone takes the database away
        @seed(self.number)
        @given(loss_cases(self.request, self.domain))
        def holds(case: LossCase) -> None:
            check(case)

        return holds


@lru_cache(maxsize=128)
def pool(request: Request, domain: Domain, number: int) -> Pool:
    """The pool for these: one and the same for everybody who asks."""
    return Pool(request, domain, number)
