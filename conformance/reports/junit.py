"""The report as JUnit XML, for a CI system's list of tests: a suite for the port, a test case for each rule."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from detr_conformance.errors import one_line, shortened
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports import facts
from detr_conformance.reports.extras import divergence

ELEMENTS = {"fail": "failure", "stale": "failure", "error": "error", "unsupported": "skipped", "xfail": "skipped"}
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


def junit(report: Report) -> str:
    """The report as XML; text is made visible, so that it holds no character that XML forbids."""
    suites = ET.Element("testsuites", name="detr-conformance")
    suite = ET.SubElement(suites, "testsuite", _totals(report), name=one_line(report.port["name"]))
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", name=name, value=one_line(value))
    for entry in report.rules:
        _add(suite, entry)
    for rule in report.not_judged:
        ET.SubElement(_case(suite, rule, facts.TITLES.get(rule, "")), "skipped", message=facts.NOT_JUDGED)
    ET.indent(suites, " ")
    return f"{DECLARATION}\n{ET.tostring(suites, encoding='unicode')}\n"


def _add(suite: ET.Element, entry: RuleEntry) -> None:
    case = _case(suite, entry.id, entry.title)
    if entry.verdict == "pass":
        return
    message = facts.message(entry) or entry.verdict
    element = ET.SubElement(case, ELEMENTS[entry.verdict], message=one_line(message))
    if entry.verdict in facts.BROKEN:
        element.set("type", entry.verdict)
        element.text = shortened("\n\n".join(_explanation(entry, message)))


def _explanation(entry: RuleEntry, message: str) -> list[str]:
    first = divergence(entry)
    return [entry.statement, message, *([first.message] if first is not None and first.message else [])]


def _case(suite: ET.Element, rule: str, title: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=facts.family(rule), name=one_line(f"{rule} {title}"))


def _totals(report: Report) -> dict[str, str]:
    counts = report.counts
    skipped = counts["unsupported"] + counts["xfail"] + len(report.not_judged)
    totals = {"tests": facts.total(report), "failures": counts["fail"] + counts["stale"], "errors": counts["error"]}
    return {name: str(number) for name, number in {**totals, "skipped": skipped}.items()}


def _properties(report: Report) -> dict[str, object]:
    said = {"verdict": report.verdict, "profile": report.profile["name"], "level": report.level, "seed": report.seed}
    versions = {f"version of {one_line(package)}": version for package, version in report.port["versions"].items()}
    return {**said, "version of detr-conformance": report.suite["version"], **versions}
