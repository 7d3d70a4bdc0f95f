"""The names that a port's numbers go by: a loss by its key, its gradient by key and input."""

from __future__ import annotations

WITH_RESPECT_TO = " with respect to "


def gradient_name(key: str, of_input: str) -> str:
    """That of the gradient of a loss."""
    return f"{key}{WITH_RESPECT_TO}{of_input}"


def key_and_input(name: str) -> tuple[str, str]:
    """The loss, and the input that its gradient is about; the latter is empty for the loss itself."""
    key, _, of_input = name.partition(WITH_RESPECT_TO)
    return key, of_input
