"""The process whose exit status counts stays out of reach of the port, and of what surrounds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "detr_conformance"]

PORT = """
import atexit, faulthandler, io, os, subprocess, sys, threading, time

os.write(1, b"noise from C")
faulthandler.enable()
sys.stdout.reconfigure(line_buffering=True)
subprocess.run([sys.executable, "-c", "print('noise of a child')"], stdout=sys.stdout, check=True)
sys.stdout = io.TextIOWrapper(sys.stdout.buffer)
atexit.register(os._exit, 0)
threading.Thread(target=time.sleep, args=(600,)).start()

from detr_conformance.ports.reference_port import ReferencePort


class Raising(ReferencePort):
    def loss(self, case):
        assert not __debug__, "as one writes in training code"
        return super().loss(case)


port = Raising()
"""
SHADOWS = ("platform", "queue", "statistics", "token")
"""Modules of the standard library whose names are taken by files beside the port."""
STEERING = {
    "PYTEST_ADDOPTS": "-k BOX-01",
    "PYTEST_PLUGINS": "there_is_no_such_plugin",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONOPTIMIZE": "1",
}
"""Variables that choose what pytest runs, or take out every `assert`."""


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.fixture
def folder(tmp_path):
    """A folder with a port that is broken, and does what it can to hide it."""
    (tmp_path / "hiding.py").write_text(PORT)
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise ImportError('this is not the standard library')\n")
    return tmp_path


def test_nothing_that_a_port_or_the_environment_does_changes_the_exit_status(folder):
    rules = ("--", "-k", "API-01 or REG-01")
    command = [Path(sys.executable).with_name("detr-conformance"), "check", "hiding:port", "--level", "smoke"]
    done = subprocess.run(
        [*command, "--json", "report.json", *rules],
        cwd=folder,
        env=os.environ | STEERING,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "noise" not in done.stdout + done.stderr
    report = json.loads((folder / "report.json").read_text())
    said = {rule["id"]: (rule["verdict"], rule["raised"]["type"]) for rule in report["rules"]}
    assert said == {"API-01": ("error", "AssertionError"), "REG-01": ("error", "AssertionError")}


def test_a_port_that_ends_the_process_which_imports_it_gets_a_sentence(tmp_path):
    (tmp_path / "ending.py").write_text("import os\nos._exit(0)\n")
    done = run("check", "ending:port", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "detr-conformance: the process that imports the port ended (exit status 0) before it had a verdict\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to be had")
@pytest.mark.parametrize("command", ["list", "spec"])
def test_a_full_disk_behind_stdout_is_exit_status_2_and_a_sentence(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("detr-conformance: stdout cannot be written (No space left on device): not all was shown\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a shell closes stdout")
def test_without_stdout_it_is_so_too():
    program = f"{sys.executable} -m detr_conformance list >&-"
    done = subprocess.run(["sh", "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "detr-conformance: stdout is closed: send it to /dev/null if nobody is to read it\n"


def test_without_stderr_a_run_goes_on(tmp_path):
    program = f"{sys.executable} -m detr_conformance check reference --level smoke --json r.json -- -k API-01 2>&-"
    done = subprocess.run(["sh", "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["counts"]["pass"] == 1


def test_a_report_is_written_where_it_was_asked_for_whatever_folder_the_port_goes_to(tmp_path):
    (tmp_path / "moving.py").write_text(
        "import os\nos.chdir('/')\nfrom detr_conformance.ports.reference_port import port as made\nport = made()\n"
    )
    done = run("check", "moving:port", "--level", "smoke", "--json", "r.json", "--", "-k", "API-01", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.json").exists()


WAITING = """
import pathlib, time
from detr_conformance.ports.reference_port import ReferencePort


class Waiting(ReferencePort):
    def loss(self, case):
        pathlib.Path("asked").touch()
        time.sleep(600)


port = Waiting()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["ended", "twice"])
def test_a_run_that_is_ended_writes_what_there_is(tmp_path, signals):
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [
        *COMMAND,
        "check",
        "waiting:port",
        "--level",
        "smoke",
        "--json",
        "r.json",
        "--",
        "-k",
        "API-01 or API-02",
    ]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=tmp_path, **options) as process:
        while not (tmp_path / "asked").exists():
            assert process.poll() is None
            time.sleep(0.1)
        for number in signals:
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            time.sleep(0.2)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    assert json.loads((tmp_path / "r.json").read_text())["not_judged"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_where_the_first_process_is_killed_the_other_one_writes_what_there_is(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [*COMMAND, "check", "waiting:port", "--level", "smoke", "--json", "r.json", "--", "-k", "API-01"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "asked").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    until = time.monotonic() + 60
    while not (tmp_path / "r.json").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (tmp_path / "r.json").exists()


def test_help_and_version_are_exit_status_0():
    assert run("--version").returncode == 0
    assert "detr-conformance" in run("check", "--help").stdout


def test_rules_are_not_to_be_had_without_their_checks():
    program = "import detr_conformance.properties.rules"
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True, check=False)
    assert "python -O and PYTHONOPTIMIZE take out" in done.stderr
