"""What is said to a user whose run cannot be made, and how text from elsewhere is shown."""

from __future__ import annotations

LONGEST_SENTENCE = 300
LONGEST_TEXT, MOST_LINES = 2000, 40
"""What is shown of a text of several lines, such as a failure's message; the report holds all of it."""


class UsageError(Exception):
    """The run cannot be made; the message is one sentence that says what to do."""


def visible(text: str) -> str:
    """The text with every control character spelled out: a port's own words must not steer the terminal."""
    return "".join(each if each == "\n" or each.isprintable() else _escaped(each) for each in text)


def one_line(value: object, limit: int = LONGEST_SENTENCE) -> str:
    """A value as visible text on one line, cut where it gets too long."""
    words = " ".join(text_of(value).split())
    text = visible(words[: limit + 1])  # spelled out, it is no shorter
    return text if len(text) <= limit else f"{text[:limit]}…"


def shortened(text: str, limit: int = LONGEST_TEXT, lines: int = MOST_LINES) -> str:
    """Visible text of several lines, cut where it gets too long, with a note of how much is left out."""
    kept = "\n".join(text[:limit].split("\n")[:lines])
    left = len(text.rstrip()) - len(kept)
    return visible(kept.rstrip()) if left <= 0 else f"{visible(kept)}… ({left:,} characters more)"


def described(error: BaseException) -> str:
    """An exception as its type and its message, on one line."""
    message = one_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def text_of(value: object) -> str:
    """The value as text, also where a port's own `__str__` fails."""
    try:
        return str(value)
    except BaseException as error:  # noqa: BLE001  # it may raise what ends programs
        return f"(its text cannot be had: __str__ raised {type(error).__name__})"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
