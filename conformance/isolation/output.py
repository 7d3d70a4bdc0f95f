"""Where what a port prints goes: nowhere while it is imported, then a file in memory that a flood does not fill."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

FLOOD = 10_000_000
"""Bytes that a port may write while one rule is judged."""
BLOCK = 1 << 20
"""Writes that would cross the end are cut or refused in units of memory pages, so it lies well behind the limit."""
SIZE = 2 * 10 * BLOCK
STREAMS = (1, 2)
"""The file descriptors of stdout and stderr."""


class Sink:
    """Takes the place of stdout and stderr, for Python and for C.

    A write beyond its end fails, at no cost in memory, on disk or on the terminal. Systems without such files get the
    null device, which takes everything and notices nothing.
    """

    def __init__(self) -> None:
        """Redirect both streams."""
        self.file = _file_in_memory()
        self._redirect()

    def _redirect(self) -> None:
        for number in STREAMS:
            os.dup2(self.file, number)
        sys.stdout, sys.stderr = self._streams = tuple(map(_stream_to, STREAMS))

    def flooded(self) -> bool:
        """Whether more than the limit has come since the last call. What the port has closed or replaced is put back.

        Both it may do: training code closes, wraps and redirects its output.
        """
        written = self._rewind()
        for stream in self._streams:
            with suppress(OSError, ValueError):  # ValueError: the port has closed it
                stream.flush()
        written += self._rewind()
        if (sys.stdout, sys.stderr) != self._streams or any(map(_is_lost, self._streams)):
            self._redirect()
        return written > FLOOD

    def _rewind(self) -> int:
        """Bytes that have come; the next ones overwrite them."""
        written = os.lseek(self.file, 0, os.SEEK_CUR)
        os.lseek(self.file, 0, os.SEEK_SET)
        return written


def _stream_to(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _is_lost(stream: TextIO) -> bool:
    """Whether a stream is closed, or what is below it."""
    try:
        os.fstat(stream.fileno())
    except (OSError, ValueError):
        return True
    return False


@contextmanager
def silence() -> Iterator[None]:
    """Show nothing of what is printed meanwhile, by Python or by C, to streams that are real files."""
    shown = sys.stdout, sys.stderr
    for stream in shown:
        with suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
            stream.flush()
    kept = [os.dup(number) for number in STREAMS]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in STREAMS:
        os.dup2(nowhere, number)
    sys.stdout, sys.stderr = streams = tuple(map(_stream_to, STREAMS))
    try:
        yield
    finally:
        for stream in streams:
            with suppress(OSError, ValueError):  # it was closed meanwhile
                stream.flush()
        sys.stdout, sys.stderr = shown
        for number, copy in zip(STREAMS, kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def _file_in_memory() -> int:
    if sys.platform != "linux":
        return os.open(os.devnull, os.O_WRONLY)
    import fcntl

    file = os.memfd_create("output", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.truncate(file, SIZE)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return file
