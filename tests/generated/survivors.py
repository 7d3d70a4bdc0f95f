"""Why no rule fails these mutants, though they answer some probe otherwise than the original."""

from __future__ import annotations

REASONS: dict[str, tuple[str, ...]] = {}
"""For each reason the mutants that it is about."""


def why(name: str) -> str:
    """The reason of a survivor; empty while nobody has looked at it."""
    return next((reason for reason, names in REASONS.items() if name in names), "")
