"""Each case of docs/findings/ still shows what docs/findings.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_conformance.properties.case_json import from_json
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES

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
