"""Parts that a report may lack: None or empty here where they are missing, or come in a shape that is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from detr_conformance.errors import one_line
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports.packet import data_uri

LARGEST_PICTURE = 500_000
"""Characters; a larger one would make the page too heavy to open."""


class Divergence(msgspec.Struct, frozen=True):
    """Where the port's numbers first part from the reference's, in words; `where` is an array and an index in it."""

    step: str
    where: str
    expected: str
    got: str
    message: str


class Deviation(msgspec.Struct, frozen=True):
    """A known mistake that the port behaves like; `link` is empty if it is no web address."""

    id: str
    story: str
    link: str


class Diagnosis(msgspec.Struct, frozen=True):
    """What the failures have in common."""

    message: str
    profile: str
    deviations: list[Deviation]


def blocked_by(entry: RuleEntry) -> str:
    """The rule whose failure explains this one; empty if none does."""
    return _text(getattr(entry, "blocked_by", None))


def divergence(entry: RuleEntry) -> Divergence | None:
    """Where the numbers first part ways."""
    found = getattr(entry, "divergence", None)
    if not isinstance(found, Mapping):
        return None
    told = {name: _text(found.get(name)) for name in Divergence.__struct_fields__}
    return Divergence(**told | {"where": f"{_text(found.get('what'))}{_text(found.get('where') or None)}"})


def picture(entry: RuleEntry) -> str:
    """The picture of the case as a data URI; empty if there is none.

    As the source of an image, an SVG can neither run a script nor load anything.
    """
    found = getattr(entry, "picture", None)
    if not isinstance(found, str) or not 0 < len(found) <= LARGEST_PICTURE:
        return ""
    return data_uri("image/svg+xml", found)


def diagnosis(report: Report) -> Diagnosis | None:
    """What the failures have in common."""
    found = report.diagnosis
    if not found:
        return None
    listed = found.get("deviations")
    deviations = [_deviation(each) for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return Diagnosis(_text(found.get("message")), _text(found.get("profile")), deviations)


def _deviation(found: Mapping[str, Any]) -> Deviation:
    link = _text(found.get("link"))
    return Deviation(_text(found.get("id")), _text(found.get("story")), link if _is_web_address(link) else "")


def _is_web_address(link: str) -> bool:
    return re.fullmatch(r"https?://[^\s\"'`<>\\]{1,300}", link) is not None and link.isprintable()


def _text(value: object) -> str:
    """A value of the report as text; None is nothing."""
    return "" if value is None else value if isinstance(value, str) else one_line(value)
