"""What `check` writes and reads besides the report: packets, lists of known deviations, and what explains a failure."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CLASSES = ("--", "-n", "0", "-k", "CLASS-02 or REG-03")  # without a worker process, which would start as long again
LISTED = '[[known-deviations]]\nrule = "{rule}"\nreason = "a thousandth too large"\n'


def report_of(path):
    rules = json.loads(path.read_text())["rules"]
    return {rule["id"]: rule for rule in rules}


def test_a_known_deviation_is_no_failure(check, tmp_path):
    (tmp_path / "known.toml").write_text(LISTED.format(rule="CLASS-02"))
    path = tmp_path / "report.json"
    run = check("sample_ports:wrong", "--known-deviations", str(tmp_path / "known.toml"), "--json", str(path), *CLASSES)
    assert run.returncode == 0, run.stdout + run.stderr
    assert report_of(path)["CLASS-02"]["verdict"] == "xfail"
    assert "a thousandth too large" in report_of(path)["CLASS-02"]["message"]


def test_a_known_deviation_that_is_none_any_more_fails_the_run(check, tmp_path):
    (tmp_path / "known.toml").write_text(LISTED.format(rule="REG-03"))
    run = check("sample_ports:good", "--known-deviations", str(tmp_path / "known.toml"), *CLASSES)
    assert run.returncode == 1
    assert "stale" in run.stdout


def test_a_draft_has_to_be_filled_in(check, tmp_path):
    draft = tmp_path / "draft.toml"
    assert check("sample_ports:wrong", "--write-known-deviations", str(draft), *CLASSES).returncode == 1
    assert 'rule = "CLASS-02"' in draft.read_text()
    run = check("sample_ports:wrong", "--known-deviations", str(draft), *CLASSES)
    assert run.returncode == 2
    assert "reason" in run.stderr


def test_a_packet_of_each_failure_shows_it_without_the_suite(check, tmp_path):
    folder = tmp_path / "packets"
    assert check("sample_ports:wrong", "--packets", str(folder), *CLASSES).returncode == 1
    assert {each.name for each in folder.iterdir()} == {
        "class-02_wrong.json",
        "class-02_wrong.svg",
        "replay_class-02_wrong.py",
    }
    [script] = folder.glob("*.py")
    assert len(script.read_text().splitlines()) <= 20
    assert json.loads((folder / "class-02_wrong.json").read_text())["rule"]["id"] == "CLASS-02"


def test_a_folder_that_cannot_be_made_is_refused_before_the_run(check):
    run = check("sample_ports:wrong", "--packets", "/dev/null/packets", *CLASSES)
    assert run.returncode == 2
    assert "rule  " not in run.stdout


@pytest.mark.thorough
def test_a_failure_says_where_the_numbers_part_and_what_explains_it(tmp_path):
    program = "import sys; from detr_conformance.cli import main; sys.exit(main())"
    (tmp_path / "museum.py").write_text(
        "from detr_conformance.mutants import MUSEUM\n"
        "port = next(each for each in MUSEUM if each.id == 'plausible-focal-alpha-swapped').port()\n"
        "port.name = 'somebody'\n"
    )
    path = tmp_path / "report.json"
    command = [sys.executable, "-c", program, "check", "museum:port", "--level", "smoke", "--json", str(path)]
    run = subprocess.run(
        [*command, "--", "-k", "CLASS-01 or INV-09"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    report = json.loads(path.read_text())
    [failed] = [rule for rule in report["rules"] if rule["verdict"] == "fail"]
    assert failed["divergence"]["step"] == "class_terms.focal.weight"
    assert failed["picture"].startswith("<svg")
    assert "plausible-focal-alpha-swapped" in {each["id"] for each in report["diagnosis"]["deviations"]}
    assert "the first step that differs is class_terms.focal.weight" in " ".join(run.stdout.split())


@pytest.mark.thorough
def test_shards_together_judge_every_rule_once(check, tmp_path):
    judged = []
    for part in (1, 2):
        path = tmp_path / f"{part}.json"
        run = check(
            "sample_ports:good", "--shard", f"{part}/2", "--json", str(path), "--", "-n", "0", "-k", "REG or BOX"
        )
        assert run.returncode == 0
        judged += report_of(path)
    assert len(judged) == len(set(judged)) == 19
