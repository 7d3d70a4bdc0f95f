"""The report as one HTML page that loads nothing, runs nothing, and reads well on any screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import jinja2
import msgspec
from markupsafe import Markup

from detr_conformance.errors import one_line, shortened
from detr_conformance.properties.rule import FAMILIES
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports import facts
from detr_conformance.reports.packet import data_uri, packet, packet_name, replay, sizes

OPENED = 3
"""So many failures are unfolded at first."""
LONGEST_NAME = 80
LARGEST_PICTURE = 500_000
"""Characters; a larger one would make the page too heavy to open."""


class Finding(msgspec.Struct, frozen=True):
    """A rule that does not hold with everything that helps to find out why."""

    entry: RuleEntry
    tone: str
    message: str
    obligation: str
    place: str
    picture: Markup
    packet: Markup
    packet_name: str
    sizes: str
    replay: list[str]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table of all rules."""

    id: str
    title: str
    verdict: str
    tone: str = ""
    explained: bool = False
    obligation: str = ""
    why: str = ""
    cases: str = ""
    share: str = ""
    percent: str = "0"
    source: str = ""


class Family(msgspec.Struct, frozen=True):
    """The rules of one family."""

    id: str
    about: str
    rows: list[Row]


def page(report: Report) -> str:
    """The report as HTML."""
    entries = {entry.id: entry for entry in report.rules}
    return _ENVIRONMENT.get_template("page.html").render(
        report=report,
        meaning=facts.meaning(report),
        hint=facts.hint(report),
        exit_status=facts.exit_status(report),
        counted=facts.counted(report),
        options=facts.options(report.port),
        total=facts.total(report),
        examples=sum(entry.examples for entry in report.rules),
        remarked=facts.remarked(report),
        causes=[(cause, facts.about(cause, entries[cause.shown_by])) for cause in report.causes],
        broken=[_finding(report, entry) for entry in facts.broken(report)],
        remarks=[_finding(report, entry) for entry in facts.remarks(report)],
        families=list(_families(report)),
    )


def _finding(report: Report, entry: RuleEntry) -> Finding:
    return Finding(
        entry=entry,
        tone=_tone(entry),
        message=facts.message(entry),
        obligation=facts.obligation(entry),
        place="" if entry.divergence is None else facts.place(entry.divergence),
        picture=Markup(_picture(entry)),  # noqa: S704  # base64 after a prefix of ours, too long to be shown like a text
        packet=Markup(packet(entry)),  # noqa: S704  # likewise
        packet_name=packet_name(entry),
        sizes=sizes(entry),
        replay=replay(report, entry),
    )


def _tone(entry: RuleEntry) -> str:
    """The colour of a verdict: what breaks no run does not look as if it did."""
    return "remark" if entry.is_remark else entry.verdict


def _picture(entry: RuleEntry) -> str:
    """The picture of the case as a data URI; empty if there is none.

    As the source of an image, an SVG can neither run a script nor load anything.
    """
    picture = entry.picture or ""
    return data_uri("image/svg+xml", picture) if 0 < len(picture) <= LARGEST_PICTURE else ""


def _families(report: Report) -> Iterator[Family]:
    missing = [Row(id=rule, title=facts.TITLES.get(rule, ""), verdict=facts.NOT_JUDGED) for rule in report.not_judged]
    rows = sorted([*map(_row, report.rules), *missing], key=lambda row: facts.rule_order(row.id))
    for family, members in groupby(rows, key=lambda row: facts.family(row.id)):
        yield Family(family, FAMILIES.get(family, ""), list(members))


def _row(entry: RuleEntry) -> Row:
    explained = entry.is_broken or entry.is_remark
    return Row(
        id=entry.id,
        title=entry.title,
        verdict=entry.verdict,
        tone=_tone(entry),
        explained=explained,
        obligation=facts.obligation(entry),
        why="" if explained else entry.message,
        cases=facts.cases(entry),
        share=facts.share(entry),
        percent=f"{100 * min(entry.share or 0.0, 1.0):.1f}",
        source=entry.source,
    )


def _shown(value: object) -> object:
    """What stands between double braces: text from elsewhere is made visible and cut, then escaped by the engine."""
    return shortened(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _name(text: str) -> str:
    return one_line(text, LONGEST_NAME)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(name=_name, web_address=facts.web_address)
_ENVIRONMENT.globals.update(NOT_JUDGED=facts.NOT_JUDGED, opened=OPENED)
