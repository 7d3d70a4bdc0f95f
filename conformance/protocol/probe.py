"""Tells a harness that does not work from a loss that is wrong: what every harness has to do, on known values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from detr_conformance.errors import UsageError, one_line
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.place import RaisedElsewhere
from detr_conformance.properties.port import METHODS, check_port
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.working import WITH_TARGETS
from detr_conformance.protocol import messages
from detr_conformance.protocol.command_port import CommandError, CommandPort, Process

PATIENCE = 60.0
"""Seconds for a step."""
NUMBERS = {
    "float64": [0.0, -0.0, 1.0, -1.5, np.pi, 5e-324, 1.7976931348623157e308, np.inf, -np.inf, np.nan],
    "float32": [0.0, -0.0, 1.0, -1.5, np.pi, 1e-45, 3.4028235e38, np.inf, -np.inf, np.nan],
    "bool": [True, False, True, False, False, False, True, True, False, True],
}
"""Ends of ranges, signs of zero, and what is no number."""
TRIED = frozenset({"one_object", "match", "denoising_indices", "denoising_group"})
"""Capabilities whose methods can answer any case."""
SHAPES = ((10,), (2, 5), (1, 2, 5, 1))


class Step(NamedTuple):
    """One thing that a harness has to do.

    Attributes:
        about: what it is.
        ask: tries it, says what came of it, and raises where the harness does not do it.
    """

    about: str
    ask: Callable[[], str]


def probe(command: str) -> int:
    """Try a harness, and show what works.

    Returns:
        0 if all of it does, 2 otherwise: then no port can be judged.
    """
    for step in _steps(command):
        try:
            found = step.ask()
        except (CommandError, messages.MessageError, UsageError, RaisedElsewhere, TypeError, ValueError) as error:
            sys.stdout.write(f"FAIL  {step.about}: {one_line(error)}\n")
            return 2
        sys.stdout.write(f"ok    {step.about}{f': {found}' if found else ''}\n")
        sys.stdout.flush()
    sys.stdout.write("the harness speaks the protocol: check judges the port\n")
    return 0


def _steps(command: str) -> Iterator[Step]:
    started: list[CommandPort] = []
    yield Step("describes itself", partial(_described, command, started))
    [port] = started
    timed = partial(_timed, port.process)
    for dtype in NUMBERS:
        yield Step(f"reads and writes arrays of {dtype}, bit for bit", timed(_echoed, port.process, dtype))
    yield Step("answers a request that it does not know with an error, and goes on", timed(_refused, port.process))
    case = known_case(port)
    for method in ("loss", *(METHODS[each] for each in sorted(port.capabilities & TRIED))):
        yield Step(f"answers {method}", timed(_answered, port.process, method, case))
    yield Step("ends when it is asked to", partial(_stopped, port.process))


def _timed(process: Process, ask: Callable[..., str], *arguments: Any) -> Callable[[], str]:  # passed on
    """The same, ended when it takes too long."""

    def timed() -> str:
        with process.ended_after(PATIENCE):
            return ask(*arguments)

    return timed


def _described(command: str, started: list[CommandPort]) -> str:
    port = CommandPort(command)
    check_port(port)
    started.append(port)
    return f"{port.name} ({', '.join([port.profile, *sorted(port.capabilities)])})"


def _echoed(process: Process, dtype: str) -> str:
    """The same array in several shapes has to come back."""
    array = np.array(NUMBERS[dtype], dtype)
    for shaped in (*(array.reshape(shape) for shape in SHAPES), array[:0].reshape(0, 4), array[:1].reshape(())):
        [back] = messages.decoded(process.ask({"method": "echo", "values": [messages.encoded(shaped)]})) or [None]
        _refuse_another(shaped, back)
    return ""


def _refuse_another(sent: np.ndarray, back: object) -> None:
    if not isinstance(back, np.ndarray) or back.shape != sent.shape or back.dtype != sent.dtype:
        came = f"{back.dtype} of shape {back.shape}" if isinstance(back, np.ndarray) else type(back).__name__
        raise ValueError(f"sent {sent.dtype} of shape {sent.shape}, and {came} came back")
    for place in np.ndindex(sent.shape):
        is_nan = bool(sent[place] != sent[place])  # which one is nobody's business
        if back[place] == back[place] if is_nan else sent[place].tobytes() != back[place].tobytes():
            raise ValueError(f"sent {sent[place]} at {list(place)}, and {back[place]} came back")


def _refused(process: Process) -> str:
    try:
        answer = process.ask({"method": "no such method"})
    except RaisedElsewhere:
        return ""
    raise ValueError(f"the answer is {answer!r}")


def _answered(process: Process, method: str, case: LossCase) -> str:
    given = [case, case] if method in messages.SEVERAL else case
    answer: Any = messages.READ[method](messages.answer_of(method, process.ask(messages.request(method, given))))
    return ", ".join(answer.losses) if method == "loss" else ""


def _stopped(process: Process) -> str:
    status = process.stop()
    if status != 0:
        raise ValueError("it had to be killed" if status is None else f"exit status {status}")
    return ""


def known_case(port: CommandPort) -> LossCase:
    """A case that any loss of the port's spec can do, with denoising queries if it takes them."""
    judged = PortUnderTest(check_port(port))
    denoising = "always" if judged.can("denoising") else "never"
    return next(iter(pool(replace(WITH_TARGETS, denoising=denoising), Domain.of(judged), 0)))
