"""A port that answers from a process of its own, which a command starts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from detr_conformance.errors import UsageError, one_line
from detr_conformance.properties.place import RaisedElsewhere
from detr_conformance.properties.port import METHODS, LossResult
from detr_conformance.protocol import messages, replies
from detr_conformance.protocol.process import CommandError, Process

START = 120.0
"""Seconds that the process may take to describe itself: it imports frameworks."""
DESCRIBED = {"name": str, "profile": str, "capabilities": list, "dtypes": list}
"""What every description has, and of which type."""


class CommandPort:
    """A port that a command starts, and that speaks the protocol of docs/any-language.md.

    Args:
        command: as in a shell, but no shell runs it.

    Attributes:
        name: as the process says; profile, capabilities, dtypes and options likewise.

    Raises:
        UsageError: the command cannot be started, or does not describe a port.
    """

    options: Mapping[str, Any]

    def __init__(self, command: str) -> None:
        """Start it, and ask for its description."""
        self.process = Process(command)
        self.described = described_by(self.process)
        self.name, self.profile = self.described["name"], self.described["profile"]
        self.capabilities, self.dtypes = (frozenset(self.described[each]) for each in ("capabilities", "dtypes"))
        self.options = self.described.get("options") or {}

    def loss(self, case: Any) -> LossResult:
        """All losses of a case, and their gradients."""
        answer: LossResult = self._ask("loss", case)
        return answer

    def __getattr__(self, name: str) -> Any:
        """The method of a capability that the process declares."""
        if any(method == name and each in self.__dict__.get("capabilities", ()) for each, method in METHODS.items()):
            return partial(self._ask, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _ask(self, method: str, *given: Any) -> Any:
        answer = self.process.ask(messages.request(method, *given))
        try:
            return replies.answer_of(method, answer)
        except messages.MessageError as error:
            raise CommandError(f"{method}: {error}") from error


def described_by(process: Process) -> dict[str, Any]:
    """What a process says of its port.

    Raises:
        UsageError: it says nothing, or not what a description has to say.
    """
    try:
        with process.ended_after(START):
            described = process.ask({"method": "describe", "protocol": messages.PROTOCOL})
    except (CommandError, RaisedElsewhere) as error:
        raise UsageError(f"--command {process.command}: {one_line(error)}") from error
    if not isinstance(described, dict):
        described = {}
    for name, kind in DESCRIBED.items():
        expected = "a text" if kind is str else "a list of names"
        if name not in described:
            raise UsageError(f"--command {process.command}: its description has no {name}, expected {expected}")
        value = described[name]
        if not isinstance(value, kind) or not all(isinstance(each, str) for each in value):
            told = messages.quoted(value)
            raise UsageError(f"--command {process.command}: {name} of its description is {told}, expected {expected}")
    return dict(described)
