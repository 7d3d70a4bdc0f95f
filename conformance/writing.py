"""Writing files that a command was asked for: whether it can be done is found out before the work, not after it."""

from __future__ import annotations

from pathlib import Path

from detr_conformance.errors import UsageError


def refuse_unwritable(path: str | None, option: str) -> None:
    """Raise UsageError if the file cannot be written, and leave no file behind; None is nowhere.

    Args:
        path: of the file.
        option: the option that named it.
    """
    if path is None:
        return
    existed = Path(path).exists()
    _open(path, "a", "", option)
    if not existed:
        Path(path).unlink()


def write(path: str | None, text: str, option: str) -> None:
    """Write the file; None is nowhere.

    Raises:
        UsageError: it cannot be written.
    """
    if path is not None:
        _open(path, "w", text, option)


def _open(path: str, mode: str, text: str, option: str) -> None:
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be written ({reason}): give {option} another path") from error
