"""Ports that do harm: each costs the rule in which it happens, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detr_conformance.halves import HALVES
from detr_conformance.isolation.workers import MOST_LOST

from . import deadly_ports, dtype_ports, hostile_ports

BETWEEN = ("BOX", "MATCH-0", "REG", "INV-0", "API-0")
"""Families whose rules are judged besides those in which something happens."""
COMMAND = [sys.executable, "-m", "detr_conformance", "check"]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is limited, and a flood is noticed, on Linux alone"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the hostile ports."""
    folder = tmp_path_factory.mktemp("user")
    for module in (hostile_ports, deadly_ports, dtype_ports):
        shutil.copy(module.__file__, folder)
    return folder


@pytest.fixture(scope="module")
def check(folder):
    """Runs `detr-conformance check` there at level smoke."""

    def run(port, *arguments, **options):
        command = [*COMMAND, port, "--level", "smoke", *arguments]
        options = {"capture_output": True, "text": True, "cwd": folder} | options
        return subprocess.run(command, check=False, **options)

    return run


@pytest.fixture(scope="module")
def every_hazard(check, folder):
    """The run on the port that has them all, and on rules between, its report, and the seconds that it took."""
    path, started = folder / "report.json", time.monotonic()
    limits = ("--memory", "0.5", "--json", str(path), "--", f"--timeout={hostile_ports.LIMIT}")
    rules = " or ".join([*hostile_ports.HAZARDS, *hostile_ports.HARMLESS, *BETWEEN])
    run = check("hostile_ports:every_hazard", *limits, "-k", rules)
    return run, json.loads(path.read_text()), time.monotonic() - started


@pytest.fixture(scope="module")
def verdicts(every_hazard):
    """Verdict and message of each rule."""
    return {rule["id"]: (rule["verdict"], rule["message"]) for rule in every_hazard[1]["rules"]}


@pytest.mark.parametrize("rule", hostile_ports.HAZARDS)
def test_a_hazard_is_an_error_of_the_rule_in_which_it_happens_and_the_reason_is_named(rule, verdicts):
    verdict, message = verdicts[rule]
    assert verdict == "error"
    assert message.startswith(hostile_ports.HAZARDS[rule][1])
    assert "\n" not in message


def test_every_other_rule_is_judged_as_if_nothing_had_happened(every_hazard, verdicts):
    run, _, seconds = every_hazard
    others = {rule: verdict for rule, verdict in verdicts.items() if rule not in hostile_ports.HAZARDS}
    assert others == dict.fromkeys(others, ("pass", ""))
    assert set(others) > {*hostile_ports.HARMLESS, "REG-04", "API-04"}
    assert len(others) > 20
    assert run.returncode == 1
    assert run.stderr == ""
    assert len(run.stdout) < 40_000, "the flood"
    assert seconds < 600


@pytest.mark.thorough
def test_a_setting_of_pytorch_that_is_left_changed_is_an_error(check):
    run = check("dtype_ports:double_by_default", "--", "-k", "AUX-04")
    assert run.returncode == 1
    assert "the port changed PyTorch's default dtype, and left it so" in " ".join(run.stdout.split())


def test_nothing_that_a_port_has_started_is_left_when_the_run_ends(every_hazard, folder):
    assert every_hazard
    here = [Path(process) for process in Path("/proc").iterdir() if process.name.isdecimal()]
    assert not [process for process in here if lies_in(process, folder)]


def lies_in(process: Path, folder: Path) -> bool:
    """Whether a process works in the folder."""
    try:
        return (process / "cwd").resolve() == folder.resolve()
    except OSError:  # it has ended, or is somebody else's
        return False


@pytest.mark.thorough
def test_a_port_that_always_ends_its_process_is_given_up_after_a_while(check, tmp_path):
    path = tmp_path / "report.json"
    assert check("deadly_ports:deadly", "--json", str(path)).returncode == 1
    report = json.loads(path.read_text())
    messages = [rule["message"] for rule in report["rules"]]
    assert report["counts"]["error"] == len(messages)
    assert report["not_judged"] == []
    assert (
        sum(message.startswith("the port ended the process (exit status 1)") for message in messages)
        == HALVES * MOST_LOST
    )
    rest = f"not tried: the port had crashed, hung or run out of memory in {MOST_LOST} rules by then, and answered in 0"
    assert messages.count(rest) == len(messages) - HALVES * MOST_LOST


def test_rules_that_pytest_lets_nobody_judge_are_errors_as_well(check):
    run = check(
        "deadly_ports:deadly", "--every-rule", "--", "-n", "1", "-k", "API-01 or API-02", "--max-worker-restart", "0"
    )
    assert "0 pass, 0 fail, 2 error" in run.stdout
    assert "not tried: the port ended the process (exit status 1), and no other was" in " ".join(run.stdout.split())


def test_a_port_that_ends_every_worker_while_it_is_built_is_refused(check):
    run = check("deadly_ports:stillborn", "--", "-k", "API-01")
    assert run.returncode == 2
    assert "the port ended the process (exit status 3), while it was built in a worker" in run.stderr


@pytest.mark.thorough
def test_a_port_that_cannot_be_built_again_leaves_errors(check):
    run = check("deadly_ports:mortal", "--every-rule", "--", "-n", "1", "-k", "API-01 or API-02")
    assert run.returncode == 1
    assert "0 pass, 0 fail, 2 error" in run.stdout
    assert "not tried: the port ended the process (exit status 3), while it was built" in " ".join(run.stdout.split())


def test_the_first_failure_ends_the_run_if_that_is_asked_for(check):
    run = check("hostile_ports:every_hazard", "--", "-n", "1", "-x", "-k", "AUX")
    assert run.returncode == 1
    assert "interrupted" not in run.stdout
    assert "1 error" in run.stdout


def _listen_to_ctrl_c():
    """A shell lets what it starts in the background ignore ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_the_run_at_once_with_a_report_of_what_there_is(folder, tmp_path):
    path, asked = tmp_path / "report.json", folder / "asked"
    command = [
        *COMMAND,
        "deadly_ports:slow",
        "--level",
        "smoke",
        "--json",
        str(path),
        "--",
        "-k",
        "MATCH-01 or API-01",
    ]
    options = {"cwd": folder, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    # In the child there is but one thread.
    with subprocess.Popen(command, **options, preexec_fn=_listen_to_ctrl_c) as run:  # noqa: PLW1509  # see above
        while not asked.exists():
            assert run.poll() is None, run.communicate()
            time.sleep(0.1)
        pressed = time.monotonic()
        os.killpg(run.pid, signal.SIGINT)
        out, _ = run.communicate(timeout=60)
    assert time.monotonic() - pressed < 20, "the call takes a minute"
    assert run.returncode == 130
    assert "interrupted\npartial: 1 pass" in out
    assert json.loads(path.read_text())["counts"]["pass"] == 1


def test_a_report_that_cannot_be_written_is_told_and_the_summary_is_shown(check):
    run = check("reference", "--json", "/dev/full", "--", "-k", "API-01", "-n", "0")
    assert run.returncode == 2
    assert (
        run.stderr
        == "detr-conformance: /dev/full cannot be written (No space left on device): give --json another path\n"
    )
    assert "partial: 1 pass" in run.stdout


@pytest.mark.parametrize("stream", ["stdout", "--junitxml"])
def test_the_report_is_written_when_something_else_cannot_be(stream, check, tmp_path):
    path = tmp_path / "report.json"
    arguments = ("reference", "--json", str(path), "--", "-k", "API-01", "-n", "0")
    if stream == "stdout":
        with Path("/dev/full").open("w") as full:
            run = check(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    else:
        run = check(*arguments, stream, "/dev/full")
    assert run.returncode == 2
    assert "No space left on device" in run.stderr
    assert run.stderr.count("\n") == 1
    assert json.loads(path.read_text())["counts"]["pass"] == 1


def test_without_a_worker_a_port_is_asked_in_the_process_that_was_started(check):
    for port, rule, status in (("deadly_ports:deadly", "API-01", 1), ("hostile_ports:every_hazard", "BOX-04", 3)):
        run = check(port, "--", "-n", "0", "-k", rule)
        assert run.returncode == 2
        assert f"the process that imports the port ended (exit status {status})" in run.stderr


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "much"])
def test_a_limit_on_memory_is_a_number_above_0(size, check):
    run = check("reference", f"--memory={size}")
    assert run.returncode == 2
    assert f"'{size}', expected a number of gigabytes above 0" in run.stderr
