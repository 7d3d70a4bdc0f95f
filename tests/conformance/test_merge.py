from __future__ import annotations

import json

import msgspec
import pytest

from detr_conformance.cli import main
from detr_conformance.report import Diagnosis, ProfileFacts, Suite
from detr_conformance.reports.merging import merge
from detr_conformance.reports.reading import read_report

EVEN, ODD = "[02468]$", "[13579]$"


def test_the_union_of_all_parts_is_the_report_of_one_run(make_report, write_report, capsys, tmp_path):
    said = {"BOX-01": {"verdict": "pass", "message": "", "share": 0.25}, "BOX-02": "unsupported"}
    parts = write_report("b.json", said, judged=EVEN), write_report("a.json", said, judged=ODD)
    out = str(tmp_path / "whole.json")
    assert main(["merge", *parts, "--json", out]) == 0
    assert read_report(out) == msgspec.json.decode(make_report(said).to_json(), type=type(read_report(out)))
    assert "partial: " in capsys.readouterr().out


def test_a_failure_in_one_part_decides(write_report, tmp_path):
    parts = write_report("a.json", {"BOX-02": "fail"}, judged=EVEN), write_report("b.json", judged=ODD)
    assert main(["merge", *parts, "--json", str(tmp_path / "whole.json")]) == 1


def test_parts_in_which_a_rule_is_missing_are_refused(write_report, refusal, tmp_path):
    out = tmp_path / "whole.json"
    sentence = refusal("merge", write_report("a.json", judged=ODD), "--json", str(out))
    assert "none of the reports judged BOX-02, BOX-04, " in sentence
    assert " others: add the report of every shard, or pass --incomplete" in sentence
    assert not out.exists()


def test_missing_rules_are_not_judged_if_that_is_accepted(write_report, tmp_path):
    out = tmp_path / "whole.json"
    parts = write_report("a.json", judged="BOX"), write_report("b.json", judged="REG")
    assert main(["merge", *parts, "--json", str(out), "--incomplete"]) == 0
    whole = read_report(str(out))
    assert whole.verdict == "partial"
    assert "MATCH-01" in whole.not_judged
    assert not {"BOX-01", "REG-01"} & set(whole.not_judged)


OTHER_RUNS = {
    "name": ({"name": "other"}, "port is sample in the first, and other in another"),
    "level": ({"level": "smoke"}, "level is standard in the first, and smoke in another"),
    "seed": ({"seed": 3}, "seed is 0 in the first, and 3 in another"),
    "suite": (
        {"suite": Suite(name="detr-conformance", version="9")},
        "version of detr-conformance is 0.1.0 in the first, and 9 in another",
    ),
    "profile": (
        {"profile": ProfileFacts(name="rtdetr", differences={}, left_open={})},
        "profile is ultralytics in the first, and rtdetr in another",
    ),
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_reports_of_other_runs_are_refused(name, write_report, refusal, tmp_path):
    changes, reason = OTHER_RUNS[name]
    parts = write_report("a.json", judged=EVEN), write_report("b.json", judged=ODD, **changes)
    assert reason in refusal("merge", *parts, "--json", str(tmp_path / "whole.json"))


def test_a_port_that_runs_on_another_version_is_another_run(make_report, write_report, refusal, tmp_path):
    port = msgspec.structs.replace(make_report().port, versions={"python": "3.12"})
    parts = write_report("a.json", judged=EVEN), write_report("b.json", judged=ODD, port=port)
    sentence = refusal("merge", *parts, "--json", str(tmp_path / "whole.json"))
    assert "version of python is 3.11 in the first, and 3.12 in another" in sentence


def test_a_port_that_may_be_asked_for_something_else_is_another_run(make_report, write_report, refusal, tmp_path):
    port = msgspec.structs.replace(make_report().port, options={"alpha": [0.25]})
    parts = write_report("a.json", judged=EVEN), write_report("b.json", judged=ODD, port=port)
    sentence = refusal("merge", *parts, "--json", str(tmp_path / "whole.json"))
    assert "alpha that may be asked for is any in the first, and 0.25 in another" in sentence


def test_reports_that_know_other_rules_are_refused(write_report, refusal, tmp_path):
    parts = write_report("a.json", judged=EVEN), write_report("b.json", judged=ODD, not_judged=[])
    out = str(tmp_path / "whole.json")
    document = json.loads((tmp_path / "b.json").read_text()) | {"verdict": "conformant"}
    (tmp_path / "b.json").write_text(json.dumps(document))
    assert "BOX-02 is in one of them, and unknown to another" in refusal("merge", *parts, "--json", out)


def test_reports_that_disagree_about_a_rule_are_refused(write_report, refusal, tmp_path):
    parts = write_report("a.json"), write_report("b.json", {"BOX-01": "fail"})
    sentence = refusal("merge", *parts, "--json", str(tmp_path / "whole.json"))
    assert "the reports disagree: BOX-01 is pass in one, and fail in another" in sentence


def test_a_rule_that_several_parts_agree_on_counts_once(make_report):
    assert merge([make_report(), make_report()]) == make_report()


def test_the_diagnosis_of_the_part_with_most_failures_is_kept(make_report):
    few = make_report({"BOX-02": "fail"}, judged=EVEN, diagnosis=Diagnosis(message="few"))
    many = make_report({"BOX-01": "fail", "BOX-03": "fail"}, judged=ODD, diagnosis=Diagnosis(message="many"))
    assert merge([few, many]).diagnosis.message == "many"
    assert merge([few, make_report(judged=ODD)]).diagnosis.message == "few"
