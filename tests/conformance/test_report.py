from __future__ import annotations

import json
from importlib import resources

import pytest

from detr_conformance.judgement import Judgement
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case_json import from_document
from detr_conformance.properties.profiles import RTDETR, ULTRALYTICS
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.run import VERDICTS, Outcome
from detr_conformance.report import RuleEntry, compose, overall, versions_for

CHOSEN = "CLASS-01 or API-01 or API-02"


def validate(document):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(resources.files("detr_conformance").joinpath("report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


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
    entries = [RuleEntry.of(outcome) for outcome in outcomes]
    return compose(Judgement(ReferencePort(), profile), entries, versions_for("reference"))


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


def test_two_processes_write_the_same_report_as_one(written, document):
    pytest.importorskip("xdist")
    assert json.loads(written("-n", "2")) == document


def test_a_worker_that_dies_is_an_error_of_its_rule(check):
    pytest.importorskip("xdist")
    run = check("sample_ports:dying", "--", "-n", "1", "--max-worker-restart", "0", "-k", "API-01 or MATCH-01")
    assert run.returncode == 1
    assert "1 pass, 0 fail, 1 error" in run.stdout


def test_rules_stand_in_their_order_and_those_without_a_verdict_are_named():
    first, second, *others = RULES
    report = composed(Outcome(second, "pass"), Outcome(first, "pass"))
    assert [entry.id for entry in report.rules] == [first.id, second.id]
    assert report.not_judged == [rule.id for rule in others]


def test_rules_that_a_profile_leaves_open_are_no_part_of_the_counts():
    left_open = composed(profile=RTDETR).profile["left_open"]
    ids = {rule for entry in left_open.values() for rule in entry["rules"]}
    assert ids == {rule.id for rule in RULES if rule.convention in RTDETR.left_open}
    assert not ids & set(composed(profile=RTDETR).not_judged)


def test_numbers_that_json_lacks_become_null():
    report = composed(Outcome(RULES[0], "pass", share=float("nan")), Outcome(RULES[1], "pass", share=float("inf")))
    document = json.loads(report.to_json())
    validate(document)
    assert [rule["share"] for rule in document["rules"]] == [None, None]


OVERALL = [
    ({"pass": 3}, True, "conformant"),
    ({"pass": 3}, False, "partial"),
    ({"pass": 3, "unsupported": 1}, True, "partial"),
    ({"pass": 3, "xfail": 1}, True, "partial"),
    ({"pass": 3, "unsupported": 1, "fail": 1}, True, "non-conformant"),
    ({"pass": 3, "error": 1}, False, "non-conformant"),
    ({"pass": 3, "stale": 1}, True, "non-conformant"),
    ({}, False, "partial"),
]


@pytest.mark.parametrize(("counts", "complete", "verdict"), OVERALL)
def test_one_failure_decides_and_only_a_complete_run_is_conformant(counts, complete, verdict):
    assert overall(dict.fromkeys(VERDICTS, 0) | counts, complete) == verdict
