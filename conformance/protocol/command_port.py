"""A port that answers from a process of its own, which a command starts."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import IO, Any

from detr_conformance.errors import UsageError, one_line, visible
from detr_conformance.properties.answers import shortened
from detr_conformance.properties.place import Raised, RaisedElsewhere
from detr_conformance.properties.port import METHODS, LossResult
from detr_conformance.protocol import messages

START = 120.0
"""Seconds that the process may take to describe itself: it imports frameworks."""
LEAVING = 10.0
"""Seconds that it may take to end once it was asked to."""
POLL = 1.0
"""Seconds for the rest of what it wrote to stderr."""
READ = 2**16
"""Bytes that are read at a time."""
LONGEST = 2**29
"""Bytes of a reply."""
MOST_ENDS = 8
"""So often the process is started again; more often only while it has answered more calls than that."""
ERROR = re.compile(r"\w*([Ee]rror|[Ee]xception|panic)\b")
"""What is in the line that says why a process ended: some languages write a stack, or their version, after it."""
LAST_WORDS = 10_000
"""Bytes of what it wrote to stderr that are kept."""
DESCRIBED = {"name": str, "profile": str, "capabilities": list, "dtypes": list}
"""What every description has, and of which type."""


class CommandError(Exception):
    """A reply is none of the protocol's."""


class CommandLostError(CommandError):
    """The process has ended, or nobody knows any more which request its next line would answer."""


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
            return messages.answer_of(method, answer)
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


class Process:
    """A process that is started when it is asked for the first time, and again after it has ended.

    Args:
        command: as in a shell.

    Attributes:
        has_own_session: what it starts in turn ends with it. Not in a worker, which ends with all that it has started.
        answered: how many requests it has answered.
        ends: how often it was ended, or has ended.
    """

    has_own_session = True

    def __init__(self, command: str) -> None:
        """Nothing runs yet."""
        self.command = command
        self.answered = self.ends = self._sent = 0
        self._lock = threading.RLock()
        self._running: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._words: LastWords | None = None

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Send a request, and wait for its answer.

        Raises:
            RaisedElsewhere: the process tells that its port raised something.
            CommandError: it has ended, or its reply is none.
        """
        with self._lock:
            self._sent += 1
            reply = self._exchanged(messages.line({"id": self._sent, **request}))
        if "error" in reply:
            raise RaisedElsewhere(_raised(reply["error"]))
        self.answered += 1
        return reply["answer"]

    def _exchanged(self, text: bytes) -> dict[str, Any]:
        """Send a line and read one. What breaks in on this ends the process: its next line would be the wrong one."""
        try:
            line, more = self._line_back(self._started(), text)
            reply = messages.parsed(line)
            _refuse_another(reply, self._sent)
            if more:
                raise messages.MessageError("more than one line for a request")
            return reply
        except messages.MessageError as error:
            self._end()
            raise CommandLostError(f"the command wrote {error}") from error
        except BaseException:
            self._end()
            raise

    def _line_back(self, process: subprocess.Popen[bytes], text: bytes) -> tuple[bytes, bytes]:
        """The line that comes back, and what came after it."""
        with suppress(OSError):  # it has ended: that no line comes back says so
            _send(_open(process.stdin), text)
        line = _line_of(process)
        answer, end, more = line.partition(b"\n")
        if end:
            return answer, more
        if len(line) >= LONGEST:
            raise CommandLostError(f"the command wrote more than {LONGEST:,} bytes without the end of a line")
        half = ", in the middle of a line" if line else ""
        raise CommandLostError(f"the command ended{self._how()}{half}{self._words or ''}")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._running is not None and self._owner == os.getpid():  # a copy of this process has none of its own yet
            return self._running
        if self.ends >= MOST_ENDS and self.ends > self.answered:
            raise CommandLostError(
                f"the command is not started again: it had ended {self.ends} times, and answered {self.answered}"
            )
        try:
            words = shlex.split(self.command)
            if not words:
                raise CommandLostError("the command is empty")
            self._running = subprocess.Popen(  # noqa: S603  # what the user asked for
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=self.has_own_session,
                env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},  # the suite's own
            )
        except (OSError, ValueError) as error:
            raise CommandLostError(f"the command cannot be started ({one_line(error)})") from error
        self._owner = os.getpid()
        self._finalise = weakref.finalize(self, _end, self._running, self.has_own_session)
        self._words = LastWords(_open(self._running.stderr))
        return self._running

    def ended_after(self, seconds: float) -> _Deadline:
        """Within this, the process is ended when the time is over."""
        return _Deadline(self, seconds)

    def stop(self) -> int | None:
        """Ask the process to end, and give its exit status; None if it had to be killed."""
        with self._lock:
            process = self._started()
            with suppress(OSError):
                _open(process.stdin).write(messages.line({"method": "stop"}))
                _open(process.stdin).close()
            status = None
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(LEAVING)
            self._end()
            return status

    def kill(self) -> None:
        """End it, whoever waits for it: that one reads the end of its output."""
        if self._running is not None:
            self._running.kill()

    def _end(self) -> None:
        if self._running is not None and self._owner == os.getpid():
            self.ends += 1
            self._finalise()
        self._running = None

    def _how(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            status = None if self._running is None else self._running.wait(LEAVING)
            if status is not None:
                return f" (exit status {status})" if status >= 0 else f" (signal {-status})"
        return ""


class LastWords:
    """The end of what a process writes to stderr.

    Args:
        stream: its stderr, which is read in a thread: a process whose words nobody reads waits for that.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        """Read on until it ends."""
        self._said = b""
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        """The last line that names an error, or else the last, after a colon; empty if there is none."""
        self._reader.join(POLL)
        lines = visible(self._said.decode(errors="replace")).strip().splitlines()
        named = [line for line in lines if ERROR.search(line)]
        return f": {shortened((named or lines)[-1].strip())}" if lines else ""

    def _read(self, stream: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            while said := os.read(stream.fileno(), 2**16):
                self._said = (self._said + said)[-LAST_WORDS:]


def _end(process: subprocess.Popen[bytes], has_own_session: bool) -> None:
    """End a process, and what it has started if it has a session of its own; let go of its streams."""
    with suppress(OSError):  # nobody is left in it
        if has_own_session:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError, ValueError):
            _open(stream).close()


def _send(stream: IO[bytes], text: bytes) -> None:
    """Write all of a line: a pipe may take a part, where a signal breaks in."""
    rest = memoryview(text)
    while rest:
        rest = rest[stream.write(rest) :]


def _line_of(process: subprocess.Popen[bytes]) -> bytes:
    """What a process writes up to the end of a line, or until it ends: others may hold its output open after that."""
    stream, line = _open(process.stdout), bytearray()
    while b"\n" not in line[-READ:] and len(line) < LONGEST:
        has_ended = process.poll() is not None
        if select.select([stream], [], [], 0.0 if has_ended else POLL)[0]:
            part = os.read(stream.fileno(), READ)
            line += part
            if not part:
                break
        elif has_ended:
            break
    return bytes(line)


class _Deadline:
    """Ends a process when the time is over, and says so."""

    def __init__(self, process: Process, seconds: float) -> None:
        self.process, self.seconds = process, seconds
        self.is_over = False
        self._timer = threading.Timer(seconds, self._end)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        self._timer.cancel()
        if self.is_over and error is not None:
            raise CommandLostError(f"the command did not answer within {self.seconds:g} s")

    def _end(self) -> None:
        self.is_over = True
        self.process.kill()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  # it was asked for
    return stream


def _refuse_another(reply: Mapping[str, Any], sent: int) -> None:
    """Raise MessageError for what is no reply to the request of this number."""
    if reply.keys() - {"id"} not in ({"answer"}, {"error"}):
        names = ", ".join(map(repr, reply)) or "nothing"
        raise messages.MessageError(f"a reply with {names}, expected 'id', and 'answer' or 'error'")
    if reply.get("id") != sent:
        told = messages.quoted(reply.get("id"))
        raise messages.MessageError(f"a reply with the id {told}, expected {sent}: one line for each request")
    if "error" in reply and not isinstance(reply["error"], dict):
        told = messages.quoted(reply["error"])
        raise messages.MessageError(f"an error that is {told}, expected an object with type and message")


def _raised(error: Mapping[str, Any]) -> Raised:
    """What a reply tells of an exception."""
    told = {name: shortened(error.get(name) or "") for name in ("type", "message", "place")}
    return Raised(
        type=told["type"] or "Exception",
        message=told["message"] or "without a message",
        place=told["place"] or None,
        traceback=str(error.get("traceback") or "")[-20_000:],
    )
