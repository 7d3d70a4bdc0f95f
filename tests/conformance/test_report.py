from __future__ import annotations

import json
from importlib import resources
from typing import get_args

import numpy as np
import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case_json import from_document
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.levels import EXAMPLES, Level
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.verdict_words import VERDICTS
from detr_conformance.reference import RTDETR, ULTRALYTICS
from detr_conformance.reports.composing import compose, entry_of
from detr_conformance.reports.schema import schema
from detr_conformance.reports.verdict import overall
from detr_conformance.versions import versions_for

from ..properties.sample_cases import BASE_RULES

CHOSEN = "CLASS-01 or API-01 or API-02"


def validate(document):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json.loads(schema())).validate(document)


@pytest.fixture(scope="module")
def written(check, tmp_path_factory):
    """Runs the wrong port and returns its report; further arguments go to pytest."""

    def run(*arguments):
        path = tmp_path_factory.mktemp("report") / "report.json"
        check("sample_ports:wrong", "--json", str(path), "--", "-k", CHOSEN, *arguments)
        return path.read_text()

    return run


@pytest.fixture(scope="module")
def document(written):
    return json.loads(written())


def composed(*outcomes, profile=ULTRALYTICS):
    entries = [entry_of(outcome) for outcome in outcomes]
    return compose(CheckPlan(ReferencePort(), profile), entries, versions_for("reference"))


def test_a_report_follows_the_schema(document):
    validate(document)
    assert document["verdict"] == "non-conformant"
    assert document["counts"] == dict.fromkeys(VERDICTS, 0) | {"pass": 2, "fail": 1}
    assert document["diagnosis"]["deviations"] == []


def test_a_failure_comes_with_a_case_that_can_be_read_back(document):
    [failed] = [rule for rule in document["rules"] if rule["verdict"] == "fail"]
    assert failed["id"] == "CLASS-01"
    assert "loss_class: expected" in failed["message"]
    assert from_document(failed["case"]).config.classification == "focal"


@pytest.mark.thorough
def test_two_processes_write_the_same_report_as_one(written, document):
    assert json.loads(written("-n", "2")) == document


def test_a_worker_that_dies_is_an_error_of_its_rule(check):
    pytest.importorskip("xdist")
    run = check("sample_ports:dying", "--", "-n", "1", "--max-worker-restart", "0", "-k", "API-01 or MATCH-01")
    assert run.returncode == 1
    assert "1 pass, 0 fail, 1 error" in run.stdout


def test_rules_stand_in_their_order_and_those_without_a_verdict_are_named():
    first, second, *others = BASE_RULES
    report = composed(RuleResult(second, "pass"), RuleResult(first, "pass"))
    assert [entry.id for entry in report.rules] == [first.id, second.id]
    assert report.not_judged == [rule.id for rule in others]


def test_rules_that_a_profile_leaves_open_are_no_part_of_the_counts():
    left_open = composed(profile=RTDETR).profile.left_open
    ids = {rule for entry in left_open.values() for rule in entry.rules}
    assert ids == {rule.id for rule in RULES if rule.convention in RTDETR.undefined}
    assert not ids & set(composed(profile=RTDETR).not_judged)


def test_what_the_port_restricts_is_told():
    port = ReferencePort()
    port.options = {"gamma": (np.float32(2.0),), "loss_gain": ({"giou": 2, "bbox": 5, "class": 1, "no_object": 0.1},)}
    port.keys = RTDETR.keys
    document = json.loads(compose(CheckPlan(port, ULTRALYTICS), [], {}).to_json())
    validate(document)
    gains = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
    assert document["port"]["options"] == {"gamma": [2.0], "loss_gain": [gains]}
    assert document["port"]["keys"] == "LayerKeys"


def test_a_port_that_restricts_nothing_says_so():
    port = json.loads(composed().to_json())["port"]
    assert (port["options"], port["keys"]) == ({}, None)


def test_numbers_that_json_lacks_become_null():
    report = composed(
        RuleResult(RULES[0], "pass", share=float("nan")), RuleResult(RULES[1], "pass", share=float("inf"))
    )
    document = json.loads(report.to_json())
    validate(document)
    assert [rule["share"] for rule in document["rules"]] == [None, None]


OVERALL = [
    (["pass"], [], True, "conformant"),
    (["pass"], [], False, "partial"),
    (["pass", "unsupported"], [], True, "partial"),
    (["pass", "xfail"], [], True, "partial"),
    (["pass", "unsupported", "fail"], [], True, "non-conformant"),
    (["pass", "error"], [], False, "non-conformant"),
    (["pass", "stale"], [], True, "non-conformant"),
    ([], [], False, "partial"),
    (["pass"], ["fail", "error", "unsupported", "xfail"], True, "conformant"),
    (["unsupported"], ["fail"], True, "partial"),
    (["pass"], ["fail"], False, "partial"),
    (["pass"], ["stale"], True, "non-conformant"),
]
MUST = next(rule for rule in RULES if rule.obligation == "MUST")
SHOULD = next(rule for rule in RULES if rule.obligation == "SHOULD")


@pytest.mark.parametrize(("must", "should", "complete", "verdict"), OVERALL)
def test_one_broken_must_decides_and_only_a_complete_run_is_conformant(must, should, complete, verdict):
    rules = [entry_of(RuleResult(MUST, word)) for word in must] + [
        entry_of(RuleResult(SHOULD, word)) for word in should
    ]
    assert overall(rules, complete) == verdict


def test_the_committed_schema_is_generated_from_the_structs():
    written = resources.files("detr_conformance").joinpath("report.schema.json").read_text()
    assert written == schema(), "run: python -m detr_conformance.reports.schema > conformance/report.schema.json"


def test_every_field_of_the_schema_is_described():
    document = json.loads(schema())
    parts = [document, *document["$defs"].values()]
    assert [name for part in parts for name, each in part["properties"].items() if "description" not in each] == []


def test_a_report_knows_every_level():
    assert get_args(Level) == tuple(EXAMPLES)
