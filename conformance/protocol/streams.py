"""The streams of a process that a command has started: a line to it, a line back, and the last it wrote to stderr."""

from __future__ import annotations

import os
import re
import select
import subprocess
import threading
from contextlib import suppress
from typing import IO

from detr_conformance.errors import visible
from detr_conformance.properties.answers import shortened

POLL = 1.0
"""Seconds for the rest of what it wrote to stderr."""
READ = 2**16
"""Bytes that are read at a time."""
LONGEST = 2**29
"""Bytes of a reply."""
ERROR = re.compile(r"\w*([Ee]rror|[Ee]xception|panic)\b")
"""What is in the line that says why a process ended: some languages write a stack, or their version, after it."""
LAST_WORDS = 10_000
"""Bytes of what it wrote to stderr that are kept."""


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


def send(stream: IO[bytes], text: bytes) -> None:
    """Write all of a line: a pipe may take a part, where a signal breaks in."""
    rest = memoryview(text)
    while rest:
        rest = rest[stream.write(rest) :]


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """What a process writes up to the end of a line, or until it ends: others may hold its output open after that."""
    stream, line = opened(process.stdout), bytearray()
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


def opened(stream: IO[bytes] | None) -> IO[bytes]:
    """A stream that was asked for when the process was started."""
    assert stream is not None  # noqa: S101  # see above
    return stream
