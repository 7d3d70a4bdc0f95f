"""A process that a command starts, and that answers requests, one line to each."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from detr_conformance.errors import one_line
from detr_conformance.properties.place import RaisedElsewhere
from detr_conformance.protocol import messages, replies, streams
from detr_conformance.protocol.streams import LastWords, opened

LEAVING = 10.0
"""Seconds that it may take to end once it was asked to."""
MOST_ENDS = 8
"""So often it is started again; more often only while it has answered more calls than that."""


class CommandError(Exception):
    """A reply is none of the protocol's."""


class CommandLostError(CommandError):
    """The process has ended, or nobody knows any more which request its next line would answer."""


class Process:
    """A process that is started when it is asked for the first time, and again after it has ended.

    Args:
        command: as in a shell.

    Attributes:
        asked: the method of the last request.
        has_own_session: what it starts in turn ends with it. Not in a worker, which ends with all that it has started.
        answered: how many requests it has answered.
        ends: how often it was ended, or has ended.
    """

    has_own_session = True

    def __init__(self, command: str) -> None:
        """Nothing runs yet."""
        self.command, self.asked = command, "nothing"
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
            self.asked = str(request["method"])
            reply = self._exchanged(messages.line({"id": self._sent, **request}))
        if "error" in reply:
            raise RaisedElsewhere(replies.raised(reply["error"]))
        self.answered += 1
        return reply["answer"]

    def _exchanged(self, text: bytes) -> dict[str, Any]:
        """Send a line and read one. What breaks in on this ends the process: its next line would be the wrong one."""
        try:
            line, more = self._line_back(self._started(), text)
            reply = replies.reply_of(line, self._sent)
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
            streams.send(opened(process.stdin), text)
        line = streams.line_of(process)
        answer, end, more = line.partition(b"\n")
        if end:
            return answer, more
        if len(line) >= streams.LONGEST:
            raise CommandLostError(f"the command wrote more than {streams.LONGEST:,} bytes without the end of a line")
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
        self._words = LastWords(opened(self._running.stderr))
        return self._running

    def ended_after(self, seconds: float) -> _Deadline:
        """Within this, the process is ended when the time is over."""
        return _Deadline(self, seconds)

    def stop(self) -> int | None:
        """Ask the process to end, and give its exit status; None if it had to be killed."""
        with self._lock:
            process = self._started()
            with suppress(OSError):
                opened(process.stdin).write(messages.line({"method": "stop"}))
                opened(process.stdin).close()
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


def _end(process: subprocess.Popen[bytes], has_own_session: bool) -> None:
    """End a process, and what it has started if it has a session of its own; let go of its streams."""
    with suppress(OSError):  # nobody is left in it
        if has_own_session:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError, ValueError):
            opened(stream).close()


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
            raise CommandLostError(f"the command did not answer {self.process.asked} within {self.seconds:g} s")

    def _end(self) -> None:
        self.is_over = True
        self.process.kill()
