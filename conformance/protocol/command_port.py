"""A port that answers from a process of its own, which a command starts."""

from __future__ import annotations

from functools import partial
from typing import Any

from detr_conformance.errors import UsageError, one_line
from detr_conformance.properties.place import RaisedElsewhere
from detr_conformance.properties.port import METHODS, LossResult
from detr_conformance.protocol import messages, replies
from detr_conformance.protocol.description import Description, description_in
from detr_conformance.protocol.process import CommandError, Process

START = 120.0
"""Seconds that the process may take to describe itself: it imports frameworks."""


class CommandPort:
    """A port that a command starts, and that speaks the protocol of docs/any-language.md.

    Args:
        command: as in a shell, but no shell runs it.

    Attributes:
        name: as the process says; profile, capabilities, dtypes, options and keys likewise.

    Raises:
        UsageError: the command cannot be started, or does not describe a port.
    """

    def __init__(self, command: str) -> None:
        """Start it, and ask for its description."""
        self.process = Process(command)
        described = described_by(self.process)
        self.name, self.profile, self.options = described.name, described.profile, described.options
        self.capabilities, self.dtypes = frozenset(described.capabilities), frozenset(described.dtypes)
        self.keys = described.table

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


def described_by(process: Process) -> Description:
    """What a process says of its port.

    Raises:
        UsageError: it says nothing, or not what a description has to say.
    """
    try:
        with process.ended_after(START):
            return description_in(process.ask({"method": "describe", "protocol": messages.PROTOCOL}))
    except (CommandError, RaisedElsewhere, messages.MessageError) as error:
        raise UsageError(f"--command {process.command}: {one_line(error)}") from error
