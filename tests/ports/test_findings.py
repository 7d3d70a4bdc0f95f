"""The cases of docs/findings/ show what docs/findings.md says, and it explains the reports of docs/compliance/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detr_conformance.options import CheckOptions
from detr_conformance.properties.case_json import from_json
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.report import Report
from detr_conformance.reports.reading import read_report
from detr_conformance.resolve import BUILT_IN, resolve

from .installed import require

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"
COMPLIANCE = Path(__file__).parents[2] / "docs" / "compliance"
RULES_BY_ID = {rule.id: rule for rule in RULES}
CASES = sorted(FINDINGS.glob("*.json"))
REPORTS = sorted(COMPLIANCE.glob("*.json"))


def finding_of(file: Path) -> tuple[str, str]:
    """The port and the rule that the name of a case says."""
    name, rule = re.fullmatch(r"(.+)-([a-z]+-\d+)", file.stem).groups()
    return name, rule.upper()


def section_of(name: str) -> str:
    """What docs/findings.md says of a port: the section that has its name in the heading."""
    sections = re.split("^## ", FINDINGS.with_suffix(".md").read_text(), flags=re.MULTILINE)
    (text,) = (each for each in sections if f"`{name}`" in each.partition("\n")[0].partition(", profile")[0])
    return text


@pytest.mark.filterwarnings("default")  # mmdet and Paddle warn where they are imported
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_the_port_breaks_the_rule_on_this_case(file: Path) -> None:
    name, rule = finding_of(file)
    require(name)
    port, profile = resolve(CheckOptions(port=name))
    outcome = judge(RULES_BY_ID[rule], port, profile, real_cases=[from_json(file.read_text())], generate=False)
    assert outcome.verdict in ("fail", "error")


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_case_is_explained_where_its_port_is(file: Path) -> None:
    name, rule = finding_of(file)
    assert {f"`{file.name}`", rule} <= {*re.findall(r"`[^`]+`", section_of(name)), *ids_in(section_of(name))}


def ids_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+-[0-9]+", text))


@pytest.mark.parametrize("name", ["ultralytics", "transformers-rtdetr"])
def test_every_rule_that_needs_more_than_a_port_declares_is_explained(name: str) -> None:
    require(name)
    judged = PortUnderTest(*resolve(CheckOptions(port=name)))
    unsupported = {rule.id for rule in RULES if rule.applies(judged) and rule.missing(judged)}
    assert unsupported <= ids_in(section_of(name))


@pytest.fixture(params=REPORTS, ids=lambda file: file.stem)
def report(request: pytest.FixtureRequest) -> Report:
    """One of docs/compliance/; what contradicts itself is refused."""
    return read_report(str(request.param))


def test_every_port_of_a_package_has_a_report() -> None:
    assert {file.stem for file in REPORTS} == {name for name, each in BUILT_IN.items() if each.version}


def test_a_report_is_of_the_port_the_profile_and_the_release_that_are_built_in(report: Report) -> None:
    built_in = BUILT_IN[report.port.name]
    assert report.profile.name == built_in.profile
    found = {name.replace("_", "-"): version for name, version in report.port.versions.items()}
    assert found[built_in.extra] == built_in.version


def test_a_report_names_rules_that_there_are_and_left_none_out(report: Report) -> None:
    assert {entry.id: entry.title for entry in report.rules} == {
        entry.id: RULES_BY_ID[entry.id].title for entry in report.rules
    }
    assert not report.not_judged


def test_every_failure_of_a_report_is_explained(report: Report) -> None:
    broken = {entry.id for entry in report.rules if entry.verdict in ("fail", "error")}
    assert broken <= ids_in(section_of(report.port.name))


def test_the_verdict_in_the_heading_is_that_of_the_report(report: Report) -> None:
    assert section_of(report.port.name).partition("\n")[0].endswith(f": {report.verdict}")
