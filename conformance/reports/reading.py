"""Reading a report back: what is no report, or contradicts itself, is refused in one sentence."""

from __future__ import annotations

from collections import Counter

import msgspec

from detr_conformance.errors import UsageError, one_line
from detr_conformance.reading import read_bytes
from detr_conformance.report import SCHEMA_VERSION, Report
from detr_conformance.reports.causes import causes_of
from detr_conformance.reports.verdict import counts_of, overall


class ReportFormatError(ValueError):
    """Bytes that are not a report; the message says in one sentence what is wrong."""


class _Version(msgspec.Struct):
    schema_version: int


def read_report(path: str) -> Report:
    """The report in a file.

    Raises:
        UsageError: the file cannot be read, or does not hold a report.
    """
    report = read_bytes(path, "a report in JSON")
    try:
        return from_json(report)
    except ReportFormatError as error:
        raise UsageError(f"{one_line(path)} is no report: {one_line(error)}; write it with check --json") from error


def from_json(text: bytes) -> Report:
    """The report that a JSON text holds.

    Raises:
        ReportFormatError: it holds none, or one that contradicts itself.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise ReportFormatError(f"schema_version is {version}, but this release reads {SCHEMA_VERSION}")
        report = msgspec.json.decode(text, type=Report)
        report = msgspec.structs.replace(report, causes=causes_of(report.rules))  # older ones have none
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportFormatError(str(error)) from error
    except RecursionError as error:
        raise ReportFormatError("it is nested too deeply") from error
    _refuse_contradictions(report)
    return report


def _refuse_contradictions(report: Report) -> None:
    """Counts and verdict follow from the rules; no form has to decide which of them to believe."""
    named = [*(entry.id for entry in report.rules), *report.not_judged]
    for rule, times in Counter(named).items():
        if times > 1:
            raise ReportFormatError(f"it names the rule {rule} {times} times")
    found = counts_of(report.rules).by_verdict()
    for word, count in report.counts.by_verdict().items():
        if count != found[word]:
            raise ReportFormatError(f"counts.{word} is {count}, but {found[word]} rules are {word}")
    verdict = overall(report.rules, complete=not report.not_judged)
    if verdict != report.verdict:
        raise ReportFormatError(f"its verdict is {report.verdict}, but its rules make it {verdict}")
