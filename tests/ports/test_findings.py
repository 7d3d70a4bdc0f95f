"""Each case of docs/findings/ still shows what docs/findings.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detr_conformance.options import CheckOptions
from detr_conformance.properties.case_json import from_json
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.resolve import resolve

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"
RULES_BY_ID = {rule.id: rule for rule in RULES}


@pytest.mark.parametrize("file", sorted(FINDINGS.glob("ultralytics-*.json")), ids=lambda file: file.stem)
def test_ultralytics_fails_the_rule_on_this_case(file: Path) -> None:
    pytest.importorskip("ultralytics", reason="needs the ultralytics package: tox run -e agreement-ultralytics")
    from detr_conformance.ports.ultralytics import port

    rule = RULES_BY_ID[file.stem.removeprefix("ultralytics-").upper()]
    outcome = judge(rule, port(), real_cases=[from_json(file.read_text())], generate=False)
    assert outcome.verdict == "fail"


def test_every_case_is_explained() -> None:
    text = FINDINGS.with_suffix(".md").read_text()
    assert all(f"`{file.name}`" in text for file in FINDINGS.glob("*.json"))


@pytest.mark.parametrize(("package", "name"), [("ultralytics", "ultralytics"), ("transformers", "transformers-rtdetr")])
def test_every_rule_that_needs_more_than_a_port_declares_is_explained(package: str, name: str) -> None:
    pytest.importorskip(package, reason=f"needs the {package} package: tox run -e agreement-{package}")
    judged = PortUnderTest(*resolve(CheckOptions(port=name)))
    section = re.split("^## ", FINDINGS.with_suffix(".md").read_text(), flags=re.MULTILINE)
    (text,) = (each for each in section if each.startswith(f"`{package}`"))
    unsupported = {rule.id for rule in RULES if rule.applies(judged) and rule.missing(judged)}
    assert unsupported <= set(re.findall(r"[A-Z]+-[0-9]+", text))
