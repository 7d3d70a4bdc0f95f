"""Where a worker's stdout and stderr go: a file in memory that cannot grow, so that a flood fills nothing."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

FLOOD = 10_000_000
"""Bytes that a port may write while one rule is judged."""
BLOCK = 1 << 20
"""Writes that would cross the end are cut or refused in units of memory pages, so it lies well behind the limit."""
SIZE = 2 * 10 * BLOCK


class Sink:
    """Takes the place of stdout and stderr, for Python and for C.

    A write beyond its end fails, at no cost in memory, on disk or on the terminal. Systems without such files get the
    null device, which takes everything and notices nothing.
    """

    def __init__(self) -> None:
        """Redirect both streams."""
        self.file = _file_in_memory()
        for stream in (1, 2):
            os.dup2(self.file, stream)

    def flooded(self) -> bool:
        """Whether more than the limit has come since the last call."""
        written = self._rewind()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # ValueError: the port has closed it
                stream.flush()
        return written + self._rewind() > FLOOD

    def _rewind(self) -> int:
        """Bytes that have come; the next ones overwrite them."""
        written = os.lseek(self.file, 0, os.SEEK_CUR)
        os.lseek(self.file, 0, os.SEEK_SET)
        return written


def _file_in_memory() -> int:
    if sys.platform != "linux":
        return os.open(os.devnull, os.O_WRONLY)
    import fcntl

    file = os.memfd_create("output", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.truncate(file, SIZE)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return file
