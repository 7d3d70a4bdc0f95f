"""The report as JUnit XML, for a CI system's list of tests: a suite for the port, a test case for each rule.

A remark is a skipped test that says why: CI stays green, and nobody takes it for a pass.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from detr_conformance.errors import one_line, shortened
from detr_conformance.report import Report, RuleEntry
from detr_conformance.reports import facts

BROKEN = {"fail": "failure", "stale": "failure", "error": "error"}
"""Elements for verdicts that make a run non-conformant."""
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


def junit(report: Report) -> str:
    """The report as XML; text is made visible, so that it holds no character that XML forbids."""
    suites = ET.Element("testsuites", name="detr-conformance")
    suite = ET.SubElement(suites, "testsuite", _totals(report), name=one_line(report.port.name))
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
    if entry.is_broken:
        element = ET.SubElement(case, BROKEN[entry.verdict], message=one_line(message), type=entry.verdict)
    else:
        element = ET.SubElement(case, "skipped", message=one_line(f"remark: {message}" if entry.is_remark else message))
    if entry.is_broken or entry.is_remark:
        element.text = shortened("\n\n".join(_explanation(entry, message)))


def _explanation(entry: RuleEntry, message: str) -> list[str]:
    parting = "" if entry.divergence is None else entry.divergence.message
    traced = "" if entry.raised is None else entry.raised.traceback
    return [text for text in (entry.statement, facts.obligation(entry), message, traced, parting) if text]


def _case(suite: ET.Element, rule: str, title: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=facts.family(rule), name=one_line(f"{rule} {title}"))


def _totals(report: Report) -> dict[str, str]:
    broken = [BROKEN[entry.verdict] for entry in facts.broken(report)]
    totals = {
        "tests": facts.total(report),
        "failures": broken.count("failure"),
        "errors": broken.count("error"),
        "skipped": facts.total(report) - report.counts.passed - len(broken),
    }
    return {name: str(number) for name, number in totals.items()}


def _properties(report: Report) -> dict[str, object]:
    said = {"verdict": report.verdict, "profile": report.profile.name, "level": report.level, "seed": report.seed}
    versions = {f"version of {one_line(package)}": version for package, version in report.port.versions.items()}
    causes = {
        f"cause {number}": f"{cause.summary} ({', '.join(cause.rules)})"
        for number, cause in enumerate(report.causes, start=1)
    }
    return {**said, **causes, "version of detr-conformance": report.suite.version, **versions}
