"""What is said to a user whose run cannot be made, and how text from elsewhere is shown."""

from __future__ import annotations

LONGEST_SENTENCE = 300


class UsageError(Exception):
    """The run cannot be made; the message is one sentence that says what to do."""


def visible(text: str) -> str:
    """The text with every control character spelled out: a port's own words must not steer the terminal."""
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def one_line(value: object, limit: int = LONGEST_SENTENCE) -> str:
    """A value as visible text on one line, cut where it gets too long."""
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= limit else f"{text[:limit]}…"


def described(error: BaseException) -> str:
    """An exception as its type and its message, on one line."""
    message = one_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
