"""What a rule asks a port, call by call: a port that records its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.errors import described, visible
from detr_conformance.isolation.watched_port import CALLS
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.global_state import GENERATOR, changed, snapshot
from detr_conformance.properties.own_options import with_own_options
from detr_conformance.properties.port import LossResult, Port
from detr_conformance.properties.port_under_test import OutOfScope, PortError, PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import LossSpec, Tracked


@dataclass(eq=False)
class Call:
    """One call of a port.

    Attributes:
        method: of the port.
        cases: what it was called with; several for `losses_in_turn` and the like, otherwise one.
        more: what else it was called with.
        answer: what came back, as it came; None where the port raised.
        raised: what the port raised instead.
        asked: for each result the losses whose gradients the rule has looked at.
        touched: names of the global settings that the call has changed, and of the random generators that it has set.
    """

    method: str
    cases: tuple[LossCase, ...]
    more: tuple[Any, ...] = ()
    answer: Any = None
    raised: str | None = None
    asked: list[set[str]] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


class RecordingPort:
    """A port that answers as another one does, and keeps every call.

    Args:
        port: the other one.

    Attributes:
        calls: in the order in which they were begun, from whichever thread.
    """

    def __init__(self, port: Port) -> None:
        """Nothing was called yet."""
        self.port = port
        self.calls: list[Call] = []
        self._states: list[tuple[dict[str, bytes], dict[str, bytes]]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the port has there
        if name in CALLS:
            return partial(self._ask, name)
        return getattr(self.port, name)

    def _ask(self, method: str, argument: LossCase | Sequence[LossCase], *more: Any) -> Any:  # noqa: ANN401  # judged by the caller
        cases = (argument,) if isinstance(argument, LossCase) else tuple(argument)
        call = Call(method, tuple(map(with_own_options, cases)), more)
        self.calls.append(call)
        before = snapshot()
        try:
            call.answer = _watched(getattr(self.port, method)(argument, *more), call)
        except BaseException as error:
            call.raised = visible(described(error))
            raise
        call.touched = self._touched(before, snapshot())
        return call.answer

    def _touched(self, before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
        """What a call has set: of generators those that an earlier call has left in the same state from another one."""
        earlier, touched = list(self._states), changed(before, after)
        self._states.append((before, after))
        return [
            name
            for name in touched
            if not name.endswith(GENERATOR)
            or any(end.get(name) == after[name] and start.get(name) != before[name] for start, end in earlier)
        ]


class Watching(PortUnderTest):
    """A port under judgement that remembers whether it failed, and in which comparison.

    Attributes:
        broken: whether it broke the rule.
        failed: what was compared last, and its expectation, if that comparison failed.
    """

    broken = False
    failed: tuple[str, Tracked] | None = None

    def compare(self, what: str, got: np.ndarray, expected: Tracked, dtype: str, by: str = "") -> None:
        """Compare, and keep what was compared if it fails."""
        __tracebackhide__ = True
        try:
            super().compare(what, got, expected, dtype, by)
        except AssertionError:
            self.failed = (what, expected)
            raise


def watched(rule: Rule, port: Port, profile: LossSpec, case: LossCase) -> tuple[list[Call], Watching]:
    """Ask the port what the rule asks it about the case; the calls, and the port as it was judged."""
    recording = RecordingPort(port)
    judged = Watching(recording, profile)
    try:
        rule.check(judged, case)
    except (AssertionError, PortError):
        judged.broken = True
    except OutOfScope:
        pass
    return recording.calls, judged


def _watched(answer: object, call: Call) -> object:
    """The answer, with gradients that note which losses they are asked for. Anything but losses stays as it is."""
    if isinstance(answer, list | tuple) and answer and all(isinstance(each, LossResult) for each in answer):
        return [_watched(each, call) for each in answer]
    if not isinstance(answer, LossResult) or not isinstance(answer.gradients, Mapping):
        return answer
    call.asked.append(set())
    return replace(answer, gradients=_Gradients(answer.gradients, call.asked[-1]))


class _Gradients(Mapping[str, Any]):
    """Gradients of each loss, which add to a set the losses that they are asked for."""

    def __init__(self, gradients: Mapping[str, Any], asked: set[str]) -> None:
        self._gradients = gradients
        self._asked = asked

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401  # judged by the caller
        self._asked.add(key)
        return self._gradients[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gradients)

    def __len__(self) -> int:
        return len(self._gradients)
