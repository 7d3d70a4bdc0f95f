"""Reading files that a command was given: what cannot be read is refused in one sentence that says what to pass."""

from __future__ import annotations

from pathlib import Path

from detr_conformance.errors import UsageError, one_line


def read_text(path: str | Path, wanted: str) -> str:
    """The text in a file.

    Args:
        path: of the file.
        wanted: what it should be, such as "a packet".

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path, wanted).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{one_line(path)} is not UTF-8 text (byte {error.start}): pass {wanted}") from error


def read_bytes(path: str | Path, wanted: str) -> bytes:
    """What a file holds.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{one_line(path)} cannot be read ({one_line(reason)}): pass {wanted}") from error
