"""The rules in two halves, which two processes judge side by side; the report is the one that a single one writes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from detr_conformance.properties.failure_kinds import Kind, SmallCases
from detr_conformance.properties.rule import Rule

HALVES = 2


def half_of(rule_id: str) -> int:
    """The half that a rule belongs to: the odd numbers of every family, or the even ones.

    The sizes of large cases go by the number too, so that either half computes the reference of its own ones alone.
    What has no number is no rule, and goes with the even ones: somebody's own tests, which may be named after --.
    """
    number = rule_id.partition("-")[2]
    return int(number) % HALVES if number.isdecimal() else 0


def rule_id(item: str) -> str:
    """The rule of an item of pytest, by its node id."""
    match = re.search(r"\[([^\[\]]+)\]$", item)
    return match[1] if match else ""


def part_of(rules: Sequence[Rule], part: int, parts: int) -> list[Rule]:
    """One of several parts of the rules, counted from 1: of each family some, which take alike, and of either half."""
    return [rule for place, rule in enumerate(rules) if place // HALVES % parts == part - 1]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Learned:
    """What earlier failures of a half have shown. It stays there, or the report would depend on who is quicker.

    Attributes:
        small: the smallest cases found so far, by kind of failure.
        told: kinds of failures that were seen to come about in a new process as well.
    """

    small: SmallCases = field(default_factory=SmallCases)
    told: set[Kind] = field(default_factory=set)
