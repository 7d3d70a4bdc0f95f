"""A profile of one's own, as `--profile package.module:SPEC` or as a port's `profile`, from check to replay."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from detr_conformance.errors import UsageError
from detr_conformance.options import CheckOptions
from detr_conformance.reports.packet import packet_name, replay
from detr_conformance.reports.reading import read_report
from detr_conformance.resolve import resolve

MODULE = """
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import RTDETR, Guard, differs, replace_in

print("noise while it is imported")
MINE = differs(RTDETR, "mine", guard=(Guard(0.01), "Areas are made larger.", "https://example.org"))
brings_its_own = ReferencePort(MINE, "brings-its-own")
stranger = ReferencePort(RTDETR, "stranger")
like_another = ReferencePort(RTDETR, profile=replace_in(RTDETR, "guard", Guard(0.01)))
WITH_COLON = differs(RTDETR, "my:own")
"""
PROGRAM = """
import sys
from pathlib import Path
from detr_conformance.cli import main
from detr_conformance.diagnosis import apart
import detr_conformance.check as running
running.cores = lambda: 1  # the others are busy with other tests
apart.SECONDS = dict.fromkeys(apart.SECONDS, 0)  # nobody has to explain the failure
sys.exit(main())
"""
SMOKE, ONE_RULE = ["--level", "smoke"], ["--", "-k", "REG-02"]
HELD_TO_MINE = ["check", "reference", "--profile", "conventions:MINE", *SMOKE]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the program in a folder with a module of conventions; `run.folder` is that folder."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "conventions.py").write_text(MODULE)

    def program(*words):
        command = [sys.executable, "-c", PROGRAM, *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert "noise" not in done.stdout
        return done

    program.folder = folder
    return program


@pytest.fixture(scope="module")
def failed(run):
    """The report of a port that follows other conventions, and the packet of its failure."""
    files = ["--json", "report.json", "--packets", "packets"]
    done = run(*HELD_TO_MINE, *files, *ONE_RULE)
    assert done.returncode == 1, done.stdout + done.stderr
    [packet] = (run.folder / "packets").glob("*.json")
    return read_report(str(run.folder / "report.json")), str(packet)


@pytest.mark.thorough
def test_the_report_says_how_the_profile_differs(failed):
    report, _ = failed
    assert report.profile.name == "mine"
    assert report.profile.differences["guard"] == "Areas are made larger."


def test_the_command_that_a_report_gives_shows_the_failure_again(run, failed):
    report, _ = failed
    [entry] = report.rules
    (run.folder / packet_name(entry)).write_text(json.dumps(entry.case))
    command = " ".join(replay(report, entry))
    assert command.count("--profile") == 1
    assert "REG    box loss: 1 fail" in run(*shlex.split(command)[1:]).stdout


def test_a_packet_is_replayed_by_the_profile_that_it_names(run, failed):
    _, packet = failed
    assert "now: fail" in run("replay", packet).stdout
    assert "now: pass" in run("replay", packet, "--profile", "ultralytics").stdout
    assert "now: pass" in run("replay", packet, "--port", "conventions:brings_its_own").stdout


def test_a_packet_of_a_port_that_brings_its_profile_is_replayed_by_that(run, failed):
    packet = run.folder / "brought.json"
    packet.write_text(json.dumps(json.loads(Path(failed[1]).read_text()) | {"profile": "mine"}))
    assert "now: pass" in run("replay", str(packet), "--port", "conventions:brings_its_own").stdout
    refused = run("replay", str(packet), "--port", "conventions:stranger")
    assert refused.returncode == 2
    assert "there is no profile 'mine', and stranger follows rtdetr" in refused.stderr


def test_a_port_is_held_to_the_profile_that_it_brings(run):
    done = run("check", "conventions:brings_its_own", *SMOKE, *ONE_RULE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "profile mine" in done.stdout


REFUSED = {
    ("reference", "conventions:stranger"): "--profile conventions:stranger is ReferencePort, expected a LossSpec",
    ("reference", "conventions:MIEN"): "has no MIEN: did you mean MINE?",
    ("reference", "conventions:WITH_COLON"): "called 'my:own': give it a name without a colon",
    ("conventions:like_another", None): "called 'rtdetr': give it a name without a colon, and none of ultralytics",
}


@pytest.mark.parametrize(("asked", "reason"), REFUSED.items())
def test_what_is_no_profile_or_cannot_be_told_apart_is_refused(asked, reason, run, monkeypatch):
    monkeypatch.syspath_prepend(run.folder)
    port, profile = asked
    with pytest.raises(UsageError) as refused:
        resolve(CheckOptions(port=port, profile=profile))
    assert reason in str(refused.value)
