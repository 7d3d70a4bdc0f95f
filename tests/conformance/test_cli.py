from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from detr_conformance import conventions
from detr_conformance.cli import main
from detr_conformance.commands import reference
from detr_conformance.properties.case_json import to_document, to_json
from detr_conformance.properties.rules import RULES
from detr_conformance.spec import markdown

from ..properties.sample_cases import BASE_RULES

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "targets" / "coco_sample.json"


def refusal(capsys, *arguments: str) -> str:
    """The one sentence on stderr with which a run that cannot be made ends."""
    __tracebackhide__ = True
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("detr-conformance: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


BAD_COMMANDS = {
    "": "required: COMMAND",
    "chek reference": "invalid choice: 'chek'",
    "check": "no port is named",
    "check refrence": "did you mean reference?",
    "check reference --level huge": "invalid choice: 'huge'",
    "check reference --profil rtdetr": "unrecognized arguments: --profil",
    "check reference --profile rtdtr": "did you mean rtdetr? choose one of",
    "check reference --profile nobody": "there is no profile 'nobody': choose one of ultralytics, rtdetr",
    "check reference -k BOX": "unrecognized arguments: -k BOX, pytest's go after --",
    "check reference --targets a.json --case b.json": "not allowed with argument",
    "check reference --targets no/such/file": "no/such/file: cannot be read (No such file or directory)",
    "check reference --case no/such/file": "no/such/file cannot be read (No such file or directory)",
    "check reference --case .": "cannot be read (Is a directory)",
    "check reference --json no/such/folder/report": "cannot be written (No such file or directory)",
    "check reference --json .": "cannot be written (Is a directory)",
    "list -- -k BOX": "list takes no arguments after --",
}


@pytest.mark.parametrize(("command", "reason"), BAD_COMMANDS.items())
def test_a_command_that_cannot_run_is_refused_in_one_sentence(command, reason, capsys):
    assert reason in refusal(capsys, *command.split())


def test_a_port_that_is_refused_leaves_no_report_behind(capsys, tmp_path):
    refusal(capsys, "check", "refrence", "--json", str(tmp_path / "report.json"))
    assert not list(tmp_path.iterdir())


def changed(case, *path, to) -> str:
    """The case as JSON, with the value at a path replaced."""
    document = to_document(case)
    *way, last = path
    owner = document
    for step in way:
        owner = owner[step]
    owner[last] = to
    return json.dumps(document)


BAD_CASES = {
    "empty": (lambda _: "", "is the file complete?"),
    "truncated": (lambda case: to_json(case)[:-40], "is the file complete?"),
    "too deep": (lambda _: "[" * 100_000, "nested too deeply"),
    "something else": (lambda _: "{}", "not a case"),
    "an unknown field": (lambda case: changed(case, "colour", to="red"), "unknown field 'colour'"),
    "an unknown option": (lambda case: changed(case, "config", "colour", to="red"), "unknown field 'colour'"),
    "an option of another type": (lambda case: changed(case, "config", "aux_loss", to=1), "is 1, expected bool"),
    "a wrong shape": (lambda case: changed(case, "config", "nc", to=3), "2 columns, but config.nc is 3"),
    "missing numbers": (lambda case: changed(case, "pred_scores", "values", to=[]), "holds 0 values"),
    "NaN in a target": (
        lambda case: changed(case, "gt_bboxes", "values", 0, to="nan"),
        "has [nan, 0.5, 0.25, 0.5] at [0], expected finite",
    ),
    "a number too fine": (lambda case: changed(case, "pred_scores", "values", 0, to="0x1.00000000000ap-1"), "float32"),
    "a class too many": (lambda case: changed(case, "gt_cls", to=[7]), "has 7 at [0], expected a class from 0 to 1"),
    "a layer too many": (
        lambda case: changed(case.change(use_uni_match=True), "config", "uni_match_ind", to=9),
        "uni_match_ind is 9",
    ),
}


@pytest.mark.parametrize("name", BAD_CASES)
def test_a_case_that_cannot_be_used_is_refused_in_one_sentence(name, small_case, capsys, tmp_path):
    write, reason = BAD_CASES[name]
    path = tmp_path / "case.json"
    path.write_text(write(small_case))
    sentence = refusal(capsys, "check", "reference", "--case", str(path))
    assert str(path) in sentence
    assert reason in sentence


def test_a_case_that_the_profile_leaves_open_is_refused(small_case, capsys, tmp_path):
    path = tmp_path / "case.json"
    one_layer = small_case.change(pred_bboxes=small_case.pred_bboxes[:1], pred_scores=small_case.pred_scores[:1])
    path.write_text(to_json(one_layer))
    sentence = refusal(capsys, "check", "reference", "--profile", "rtdetr", "--case", str(path))
    assert "which the profile rtdetr leaves open" in sentence


def test_malformed_targets_are_refused_with_the_reason(capsys, tmp_path):
    path = tmp_path / "instances.json"
    path.write_text('{"images": [')
    assert "is cut short at line 1" in refusal(capsys, "check", "reference", "--targets", str(path))


def test_a_port_that_breaks_a_rule_is_non_conformant(check):
    run = check("sample_ports:wrong", "--", "-k", "CLASS-01 or API-01 or API-02")
    assert run.returncode == 1
    assert run.stderr == ""
    assert "1. loss_class is off\n   1 rule: CLASS-01\n" in run.stdout
    assert "CLASS  classification loss: 1 fail\n" in run.stdout
    assert "non-conformant: 2 pass, 1 fail, 0 error, 0 unsupported" in run.stdout


def test_what_is_not_declared_is_unsupported_and_no_failure(check):
    run = check("sample_ports:modest", "--", "-n", "0", "-k", "API-01 or MATCH-01")
    assert run.returncode == 0
    assert "partial: 1 pass, 0 fail, 0 error, 1 unsupported" in run.stdout
    assert "noise" not in run.stdout + run.stderr, "what the port prints is shown"


def test_a_should_that_does_not_hold_is_a_remark_and_no_failure(check):
    run = check("sample_ports:careless", "--", "-n", "0", "-x", "-k", "API-01 or NUM-05")
    assert run.returncode == 0
    assert "\nremark: " in run.stdout
    assert "(NUM-05)\n" in run.stdout
    said = f"partial, 1 remark: 1 pass, 0 fail, 1 error, 0 unsupported, {len(BASE_RULES) - 2} not judged"
    assert said in " ".join(run.stdout.split())


def test_the_output_fits_80_columns_and_holds_no_control_characters(check):
    for option in ([], ["--every-rule"]):
        run = check("sample_ports:raising", *option, "--", "-n", "0", "-k", "API-01")
        assert run.returncode == 1
        assert max(map(len, run.stdout.splitlines())) <= 80
        assert r"RuntimeError: [bold]no\x1b[31m kernel for this \udcff" in " ".join(run.stdout.split())


def test_a_port_that_gives_no_answer_is_an_error_and_the_run_goes_on(check):
    run = check("sample_ports:hopeless", "--", "-k", "API-01 or MATCH-01 or DN-10", "--timeout", "3")
    assert run.returncode == 1
    assert "loss(case) returned dict, expected a LossResult" in run.stdout
    assert "no answer within 3 s: the port hangs" in run.stdout
    assert "1 pass, 0 fail, 2 error" in run.stdout


def test_a_run_that_is_interrupted_reports_what_it_has(check, tmp_path):
    report = str(tmp_path / "report.json")
    run = check("sample_ports:impatient", "--json", report, "--", "-n", "0", "-k", "API-01 or MATCH-01")
    assert run.returncode == 130
    assert "interrupted\npartial: 1 pass" in run.stdout
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["pass"] == 1


PYTEST_ARGUMENTS = {
    "-k no_such_rule": "no rule was judged: change the arguments after -- (-k no_such_rule)",
    "--no-such-option": "pytest refuses the arguments after -- (unrecognized arguments: --no-such-option)",
    "--assert=rewrite -W error::pytest.PytestAssertRewriteWarning": "pytest broke off (PytestAssertRewriteWarning:",
}


@pytest.mark.parametrize(("arguments", "reason"), PYTEST_ARGUMENTS.items())
def test_arguments_for_pytest_that_do_not_work_are_refused(check, arguments, reason):
    run = check("reference", "--", *arguments.split())
    assert run.returncode == 2
    assert reason in run.stderr
    assert run.stderr.count("\n") == 1, run.stderr


@pytest.mark.thorough
def test_a_case_is_judged_by_the_rules_that_it_fits(check, small_case, tmp_path):
    path, report = tmp_path / "case.json", tmp_path / "report.json"
    path.write_text(to_json(small_case))
    assert check("sample_ports:wrong", "--case", str(path), "--json", str(report)).returncode == 1
    verdicts = {rule["id"]: rule["verdict"] for rule in json.loads(report.read_text())["rules"]}
    assert verdicts["CLASS-01"] == "fail"
    assert verdicts["MATCH-01"] == "pass"
    assert not {"CLASS-02", "DN-01", "NUM-01"} & set(verdicts), "varifocal, denoising and float64 rules"


def test_a_case_with_something_that_the_port_does_not_declare_is_unsupported(check, small_case, tmp_path):
    path = tmp_path / "case.json"
    path.write_text(to_json(small_case.change(use_vfl=True)))
    run = check("sample_ports:modest", "--case", str(path), "--", "-n", "0", "-k", "API-01")
    assert "0 pass, 0 fail, 0 error, 1 unsupported" in run.stdout


def test_real_targets_add_cases(check):
    run = check("reference", "--targets", str(SAMPLE), "--", "-n", "0", "-k", "API-02")
    assert run.returncode == 0
    assert "coco_sample.json: 196 images" in " ".join(run.stdout.split())


def test_every_rule_is_listed(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(rule.id in out and rule.title in out for rule in RULES)
    assert re.search(r"NUM-05 .* SHOULD  float32\n", out)
    assert re.search(r"transformers-rtdetr +rtdetr +transformers 5\S+ +RT-DETR\n", out)


def test_the_document_of_the_rules_is_up_to_date():
    written = (ROOT / "docs" / "spec.md").read_text()
    assert written == markdown(), "run: detr-conformance spec > docs/spec.md"


def test_the_document_of_the_conventions_is_up_to_date():
    written = (ROOT / "docs" / "conventions.md").read_text()
    assert written == conventions.markdown(), "run: detr-conformance conventions > docs/conventions.md"


def test_the_document_of_the_commands_is_up_to_date():
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == reference.markdown(), "run: python -m detr_conformance.commands.reference > docs/commands.md"
