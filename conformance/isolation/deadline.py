"""When a worker process is overdue: it says so itself, and whoever started it ends it then.

It is said through memory that both share, by way of a file: whatever a port does to signals, timers and streams, which
training code does, the time still comes.
"""

from __future__ import annotations

import mmap
import struct
import time
from contextlib import suppress
from pathlib import Path

NONE = 0.0
"""Nothing is being waited for."""
NUMBER = struct.Struct("d")


class Deadline:
    """The deadline of this process, on the clock that all processes of a machine share.

    Args:
        path: of the file, which it makes.
    """

    def __init__(self, path: Path) -> None:
        """Make the file; nothing is waited for yet."""
        path.write_bytes(NUMBER.pack(NONE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), NUMBER.size)

    def set(self, seconds: float) -> None:
        """In so many seconds from now."""
        self._memory[:] = NUMBER.pack(time.monotonic() + seconds)

    def clear(self) -> None:
        """Nothing is waited for any more."""
        self._memory[:] = NUMBER.pack(NONE)


def is_overdue(path: Path) -> bool:
    """Whether the deadline in a file is over; False where there is none yet."""
    with suppress(OSError, struct.error):  # it is being made
        at: float = NUMBER.unpack(path.read_bytes())[0]
        return at != NONE and time.monotonic() > at
    return False
