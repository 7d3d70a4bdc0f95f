"""Levels: on how many cases each rule is checked."""

from __future__ import annotations

from typing import Literal, cast

from detr_conformance.properties.request import Request

Level = Literal["smoke", "standard", "exhaustive"]

EXAMPLES = {"smoke": 3, "standard": 30, "exhaustive": 200}
"""How many cases each rule is checked on, by level."""

CHEAP = 4
"""A rule whose cases are cheap is checked on so many times more."""

PATIENCE = 100
"""So many times the cases that are wanted are drawn before a rule makes do with those that it could judge."""


def check_level(level: str) -> Level:
    """The level.

    Raises:
        ValueError: there is none of this name.
    """
    if level not in EXAMPLES:
        raise ValueError(f"level is {level!r}, expected one of {', '.join(EXAMPLES)}")
    return cast("Level", level)


def wanted(level: str, request: Request) -> int:
    """Number of cases that a rule with this request is checked on."""
    return EXAMPLES[level] * (CHEAP if request.cheap else 1)
