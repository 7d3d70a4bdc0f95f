"""What a port answers, asked once, beside what a spec would answer to the same question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from detr_conformance.identify.generated import expected_of, shown
from detr_conformance.numbers_by_name import key_and_input
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching, Port
from detr_conformance.properties.port_under_test import PortError, PortUnderTest, ReturnedLosses
from detr_conformance.properties.tolerance import allowed_error, budget_shares
from detr_conformance.reference import LossSpec, Tracked, track
from detr_conformance.reference.rounding import plain

MATCHING = "matching"
BROKEN = "queries that are not finite and matched"
FINITE = " is finite"
"""How the name of a fact about a loss ends: whether it is a number."""
GENERATED = "denoising: "
"""How the names of what a generator shows begin."""
NOT_SHOWN = np.inf
"""Share of the budget of what is no number, or is missing."""

Answer = TypeVar("Answer")
Tell = Callable[[str], None]
"""Hears what the port is about to be asked."""


class Answers:
    """A port that is asked everything once.

    Args:
        port: the port.
        tell: hears what the port is about to be asked.

    Attributes:
        refusals: why it gave no answer, each reason once.
    """

    def __init__(self, port: Port, tell: Tell) -> None:
        """Ask nothing yet."""
        self.port = port
        self.tell = tell
        self.refusals: dict[str, str] = {}
        self._kept: dict[tuple[str, LossCase], Any] = {}

    @property
    def first_refusal(self) -> str:
        """Why it gave no answer the first time; empty if it always gave one."""
        return next(iter(self.refusals), "")

    def can(self, capability: str) -> bool:
        """Whether the port has declared it."""
        return capability in self.port.capabilities

    def losses(self, case: LossCase, spec: LossSpec) -> ReturnedLosses:
        """The losses of a case, read by the keys of a spec.

        Raises:
            PortError: there are none.
        """
        judged = PortUnderTest(self.port, spec)
        result: LossResult = self._once("loss", case, lambda: judged.loss(case).result)
        return ReturnedLosses(result, case, judged)

    def match(self, case: LossCase, spec: LossSpec) -> list[list[Matching]]:
        """The matching of a case; PortError likewise."""
        return self._once("match", case, lambda: PortUnderTest(self.port, spec).match(case))

    def denoising_group(self, case: LossCase, spec: LossSpec) -> DenoisingGroup | None:
        """Denoising queries for a case; PortError likewise."""
        return self._once("denoising_group", case, lambda: PortUnderTest(self.port, spec).denoising_group(case))

    def _once(self, method: str, case: LossCase, ask: Callable[[], Answer]) -> Answer:
        """What came when it was asked first, be that an exception."""
        if (method, case) not in self._kept:
            self.tell(f"{method}(case) with {described(case)}")
            try:
                self._kept[method, case] = ask()
            except PortError as error:
                self.refusals.setdefault(str(error), described(case))
                self._kept[method, case] = error
        answer: Answer = self._kept[method, case]
        if isinstance(answer, PortError):
            raise answer
        return answer


def described(case: LossCase) -> str:
    """What is special about a case, in a few words."""
    config = case.config
    said = [f"{config.classification} loss", f"{case.layers} layers"]
    said += ["no targets"] if not case.targets else []
    said += ["denoising queries"] if case.denoising is not None else []
    said += ["use_uni_match"] if config.use_uni_match else []
    return ", ".join([*said, *([] if is_finite(case) else ["a number that is not finite"])])


def got(answers: Answers, case: LossCase, name: str, spec: LossSpec) -> Any:  # noqa: ANN401  # a number or a fact
    """One answer of the port; None for a loss that it has left out.

    Raises:
        PortError: it gives none.
    """
    if name in (MATCHING, BROKEN):
        pairs = _pairs(answers.match(case, spec))
        return pairs if name == MATCHING else _broken(pairs)
    if name.startswith(GENERATED):
        return shown(answers.denoising_group(case, spec), case)[name.removeprefix(GENERATED)]
    returned = answers.losses(case, spec)
    key, of_input = key_and_input(name.removesuffix(FINITE))
    try:
        value = returned.gradient(key, of_input) if of_input else returned.value(key)
        return bool(np.isfinite(value)) if name.endswith(FINITE) else value
    except AssertionError:
        return None


def predicted(case: LossCase, name: str, spec: LossSpec) -> Any:  # noqa: ANN401  # a number or a fact
    """The same of a spec, with bounds."""
    if name in (MATCHING, BROKEN):
        pairs = _pairs(ReferencePort(spec).match(case))
        return pairs if name == MATCHING else _broken(pairs)
    if name.startswith(GENERATED):
        return expected_of(spec, case)[name.removeprefix(GENERATED)]
    key, of_input = key_and_input(name.removesuffix(FINITE))
    loss = oracle.expected_losses(case, spec).get(key)
    if loss is None:
        return None
    if not of_input:
        return bool(np.isfinite(loss.value.values)) if name.endswith(FINITE) else loss.value
    return loss.gradients.get(of_input, track(np.zeros(_input(case, of_input).shape)))


def is_certain(case: LossCase, spec: LossSpec) -> bool:
    """Whether a spec has one answer: every image has one query, or rounding cannot change who is matched with whom.

    Of costs that are not finite nothing is known of rounding; few draws are on the edge.
    """
    if case.changes_matcher:
        costs = (cost for layer in oracle.matching_costs(case, spec) for cost in layer)
        return all(is_unambiguous(plain(cost), oracle.allowed_cost_error(cost, case.dtype)) for cost in costs)
    return case.queries == 1 or not is_finite(case) or oracle.matching_is_certain(case, spec)


def is_finite(case: LossCase) -> bool:
    """Whether all of its numbers are."""
    return all(np.isfinite(each).all() for each in case.float_arrays().values())


def share(answer: Any, expected: Any, dtype: str) -> float:  # noqa: ANN401  # a number or a fact
    """How much of the budget an answer uses; infinite for another fact."""
    if isinstance(expected, frozenset):  # what is allowed
        return 0.0 if answer in expected else NOT_SHOWN
    if not isinstance(expected, Tracked):
        return 0.0 if answer == expected else NOT_SHOWN
    if answer is None or np.shape(answer) != expected.shape:
        return NOT_SHOWN
    return float(np.max(budget_shares(answer, expected, dtype), initial=0.0))


def alike(one: Any, other: Any, dtype: str) -> bool:  # noqa: ANN401  # numbers or facts
    """Whether no port can show that two specs differ in an answer."""
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return bool(one & other)
    if not (isinstance(one, Tracked) and isinstance(other, Tracked)):
        return not isinstance(one, Tracked) and not isinstance(other, Tracked) and bool(one == other)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.values - other.values) > allowed_error(one, dtype) + allowed_error(other, dtype)
    return not bool((apart | (np.isfinite(one.values) != np.isfinite(other.values))).any())


def _broken(pairs: list[list[list[tuple[int, int]]]]) -> list[list[bool]]:
    """For each layer and image whether its first query is matched, the one that `cases.broken` breaks."""
    return [[any(query == 0 for query, _ in image) for image in layer] for layer in pairs]


def _input(case: LossCase, name: str) -> np.ndarray:
    return case.float_arrays()[name]


def _pairs(layers: Sequence[Iterable[Matching]]) -> list[list[list[tuple[int, int]]]]:
    return [[sorted(zip(map(int, q), map(int, t), strict=True)) for q, t in images] for images in layers]
