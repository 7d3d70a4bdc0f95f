"""A port as the rules see it in a worker process: a call that changes its input or exhausts the memory is noticed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from detr_conformance.errors import described
from detr_conformance.isolation import memory
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import METHODS, Port
from detr_conformance.properties.port_under_test import PortTimeout
from detr_conformance.protocol.process import CommandLostError

CALLS = frozenset({"loss", *METHODS.values()})
"""The methods of a port that rules call."""


class PortLost(PortTimeout):
    """The port can be called no more for this rule. As after a timeout, the case is not made smaller."""

    def in_call(self, method: str) -> PortTimeout:  # noqa: ARG002  # what was raised names it
        """The same."""
        return self


class WatchedPort:
    """A port whose calls are watched; in all else it behaves as the port itself.

    Args:
        port: the port.
        gigabytes: how much memory it may take.

    Attributes:
        exhausted: a call has used up the memory.
        answered: calls that came back since the count was started.
    """

    def __init__(self, port: Port, gigabytes: float) -> None:
        """Nothing was called yet."""
        self.port = port
        self.gigabytes = gigabytes
        self.exhausted = False
        self._process = os.getpid()
        self.start_counting()

    def start_counting(self) -> None:
        """Count calls and seconds from now on."""
        self.answered = 0
        self._seconds = 0.0
        self._called_at: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that calls took since then, with that which is not over."""
        return self._seconds + (0.0 if self._called_at is None else time.monotonic() - self._called_at)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the port has
        """What the port has under this name; calls of the protocol are watched."""
        found = getattr(self.port, name)
        return self._watched(name, found) if name in CALLS else found

    def as_port(self) -> Port:
        """This object, with the type of a port: it has every attribute that the port has."""
        return cast("Port", self)

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(argument: LossCase | Sequence[LossCase], *more: Any) -> Any:  # noqa: ANN401  # judged by the caller
            cases = [argument] if isinstance(argument, LossCase) else list(argument)
            before = [_contents(case) for case in cases]
            self._called_at = time.monotonic()
            try:
                return self._answer(name, method, argument, *more)
            finally:
                self._seconds, self._called_at = self.seconds, None
                self.answered += 1
                if os.getpid() != self._process:
                    os._exit(0)  # a process that the port forked must not go on judging, or there are two reports
                _refuse_changes(name, cases, before)

        return call

    def _answer(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401  # see above
        try:
            return method(*arguments)
        except PortTimeout:
            raise
        except CommandLostError as lost:
            raise PortLost(f"{name}(case): {lost}") from None
        except (Exception, SystemExit) as error:
            if not memory.was_refused(error):
                raise
            memory.lift()
            self.exhausted = True
            raise PortLost(f"{out_of_memory(self.gigabytes)} ({name}(case) raised {type(error).__name__})") from None
        except BaseException as error:  # KeyboardInterrupt, and what pytest and others end programs with
            raise PortLost(f"{name}(case) raised {described(error)}") from error


def out_of_memory(gigabytes: float) -> str:
    """The message for a port that has reached the memory limit."""
    return f"out of memory: more than {gigabytes:g} GB above the start"


def _contents(case: LossCase) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in _arrays(case).items()}


def _arrays(case: LossCase) -> Mapping[str, np.ndarray]:
    """Every array of a case by its name."""
    arrays = {**case.float_arrays(), "gt_cls": case.gt_cls}
    if case.denoising is not None:
        arrays |= {f"dn_pos_idx[{image}]": each for image, each in enumerate(case.denoising.pos_idx)}
        arrays |= {f"dn_gt_idx[{image}]": each for image, each in enumerate(case.denoising.gt_idx)}
    return arrays


def _refuse_changes(call: str, cases: Sequence[LossCase], before: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Restore inputs that the port has changed, which it can through a view that is not locked, and raise PortLost."""
    touched: dict[str, None] = {}
    for case, contents in zip(cases, before, strict=True):
        for name, array in _arrays(case).items():
            if array.tobytes() != contents[name].tobytes():
                _overwrite(array, contents[name])
                touched[name] = None
    if touched:
        raise PortLost(f"{call}(case) changed its input {', '.join(touched)}")


def _overwrite(array: np.ndarray, contents: np.ndarray) -> None:
    """Write into a locked array, which may be a view of others that are locked as well."""
    owners = [array]
    while isinstance(owners[-1].base, np.ndarray):
        owners.append(owners[-1].base)
    for each in reversed(owners):
        each.setflags(write=True)
    array[...] = contents
    for each in owners:
        each.setflags(write=False)
