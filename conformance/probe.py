"""Tells a harness that does not work from a loss that is wrong: what every harness has to do, on known values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np

from detr_conformance.errors import UsageError, one_line
from detr_conformance.options import CheckOptions
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.place import RaisedElsewhere
from detr_conformance.properties.port import METHODS, SEVERAL, LossResult
from detr_conformance.properties.port_under_test import PortUnderTest, call_of
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.working import WITH_TARGETS
from detr_conformance.protocol import messages, replies
from detr_conformance.protocol.command_port import CommandPort
from detr_conformance.protocol.process import CommandError, Process
from detr_conformance.resolve import resolve

PATIENCE = 60.0
"""Seconds for a step."""
NUMBERS = {
    "float64": [0.0, -0.0, 1.0, -1.5, np.pi, 5e-324, 1.7976931348623157e308, np.inf, -np.inf, np.nan],
    "float32": [0.0, -0.0, 1.0, -1.5, np.pi, 1e-45, 3.4028235e38, np.inf, -np.inf, np.nan],
    "float16": [0.0, -0.0, 1.0, -1.5, 0.25, 6e-8, 65504.0, np.inf, -np.inf, np.nan],
    "int64": [0, 1, -1, 255, 256, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63)],
    "int32": [0, 1, -1, 127, 128, 255, 256, 65536, 2**31 - 1, -(2**31)],
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


def probe(options: CheckOptions) -> int:
    """Try a harness, and show what works.

    Args:
        options: how `check` was asked for the port.

    Returns:
        0 if all of it does, 2 otherwise: then no port can be judged.
    """
    for step in _steps(options):
        try:
            found = step.ask()
        except (CommandError, messages.MessageError, UsageError, RaisedElsewhere, TypeError, ValueError) as error:
            sys.stdout.write(f"FAIL  {step.about}: {one_line(error)}\n")
            return 2
        sys.stdout.write(f"ok    {step.about}{f': {one_line(found)}' if found else ''}\n")
        sys.stdout.flush()
    sys.stdout.write("the harness speaks the protocol: check judges the port\n")
    return 0


def _steps(options: CheckOptions) -> Iterator[Step]:
    started: list[PortUnderTest] = []
    yield Step("describes itself", partial(_described, options, started))
    [judged] = started
    process = cast("CommandPort", judged.port).process
    timed = partial(_timed, process)
    for dtype in NUMBERS:
        yield Step(f"reads and writes arrays of {dtype}, bit for bit", timed(_echoed, process, dtype))
    yield Step("answers a request that it does not know with an error, and goes on", timed(_refused, process))
    cases = known_cases(judged)
    yield Step("answers loss", timed(_losses, process, judged, cases))
    for method in (METHODS[each] for each in sorted(judged.port.capabilities & TRIED)):
        yield Step(f"answers {method}", timed(_answered, process, method, cases[0]))
    yield Step("ends when it is asked to", partial(_stopped, process))


def _timed(process: Process, ask: Callable[..., str], *arguments: Any) -> Callable[[], str]:
    """The same, ended when it takes too long."""

    def timed() -> str:
        with process.ended_after(PATIENCE):
            return ask(*arguments)

    return timed


def _described(options: CheckOptions, started: list[PortUnderTest]) -> str:
    port, profile = resolve(options)
    started.append(PortUnderTest(port, profile))
    return f"{port.name} ({', '.join([profile.name, *sorted(port.capabilities)])})"


def _echoed(process: Process, dtype: str) -> str:
    """The same array in several shapes has to come back."""
    array = np.array(NUMBERS[dtype], dtype)
    for shaped in (*(array.reshape(shape) for shape in SHAPES), array[:0].reshape(0, 4), array[:1].reshape(())):
        answer = process.ask({"method": "echo", "values": [messages.as_array(shaped)]})
        if not isinstance(answer, list) or len(answer) != 1:
            raise ValueError(f"sent a list of one array, and {messages.quoted(answer)} came back")
        _refuse_another(shaped, messages.decoded(answer[0]))
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


def _losses(process: Process, judged: PortUnderTest, cases: Sequence[LossCase]) -> str:
    """Two cases in turn: numbers of shape (), of which the profile knows some, and the first one's again."""
    first, _, again = [cast("LossResult", _read(process, "loss", case)) for case in (*cases, cases[0])]
    for key, value in first.losses.items():
        if value.shape:
            raise ValueError(f"losses.{key} has shape {value.shape}, expected a number, or an array of shape ()")
    call = call_of(cases[0], judged.spec)
    if not any(judged.keys.canonical(key, call) for key in first.losses):
        expected = ", ".join(sorted(judged.keys.expected(call)[0]))
        came = ", ".join(first.losses) or "none"
        raise ValueError(
            f"no key of {came} is of {judged.spec.name}, expected {expected}, or `keys` in the description"
        )
    if first.losses.keys() != again.losses.keys():
        raise ValueError("the same case has other keys when it comes again")
    return ", ".join(first.losses)


def _answered(process: Process, method: str, case: LossCase) -> str:
    _read(process, method, [case, case] if method in SEVERAL else case)
    return ""


def _read(process: Process, method: str, given: LossCase | Sequence[LossCase]) -> object:
    return replies.READ[method](replies.answer_of(method, process.ask(messages.request(method, given))))


def _stopped(process: Process) -> str:
    status = process.stop()
    if status != 0:
        raise ValueError("it had to be killed" if status is None else f"exit status {status}")
    return ""


def known_cases(judged: PortUnderTest) -> list[LossCase]:
    """Two cases that any loss of the spec can do, with denoising queries if the port takes them."""
    denoising = "always" if judged.can("denoising") else "never"
    return list(islice(pool(replace(WITH_TARGETS, denoising=denoising), Domain.of(judged), 0), 2))
