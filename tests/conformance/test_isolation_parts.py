"""The parts that contain a port, each by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from detr_conformance.isolation import memory
from detr_conformance.isolation.exit_log import ENTRY, ExitLog
from detr_conformance.isolation.process_state import restored_state
from detr_conformance.isolation.watched_port import PortLost, WatchedPort
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.port_under_test import PortUnderTest

CRASH = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "{library}/ctypes/__init__.py", line 519 in string_at
  File "/home/user/loss.py", line 12 in forward
  File "/repo/conformance/isolation/watched_port.py", line 70 in _answer
  File "/repo/conformance/check.py", line 1 in check
"""


CHANGES = {
    "the environment variables (OTHER)": lambda monkeypatch: monkeypatch.setenv("OTHER", "1"),
    "Python's search path": lambda _: sys.path.append("elsewhere"),
    "Python's warnings filters": lambda _: warnings.simplefilter("ignore"),
    "NumPy's error handling (over)": lambda _: np.seterr(over="ignore"),
    "the working folder": lambda _: os.chdir("/"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_global_setting_that_was_changed_is_named_and_put_back(name, monkeypatch):
    with restored_state() as before:
        pass
    with restored_state() as touched:
        CHANGES[name](monkeypatch)
    with restored_state() as after:
        pass
    assert (before, touched, after) == ([], [name], [])


def test_settings_of_pytorch_are_put_back_as_well():
    torch = pytest.importorskip("torch")
    with restored_state() as touched:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.manual_seed(1)
    assert touched == ["PyTorch's default dtype", "PyTorch's gradient mode"]
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)


def test_a_port_may_draw():
    with restored_state() as touched:
        np.random.rand()  # noqa: NPY002  # the global one is meant
    assert touched == []


def test_a_call_is_passed_on_with_all_that_the_port_has(small_case):
    port = ReferencePort()
    watch = WatchedPort(port, 1.0)
    assert (watch.name, watch.capabilities) == (port.name, port.capabilities)
    assert watch.loss(small_case).losses == port.loss(small_case).losses


JUDGED_TWICE = """
from pathlib import Path

from detr_conformance.check_plan import CheckPlan
from detr_conformance.isolation.worker import Worker
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.working import CASES
from detr_conformance.reference import ULTRALYTICS

calls = []


class Counting(ReferencePort):
    def loss(self, case):
        calls.append(case)
        return super().loss(case)


plan, worker = CheckPlan(Counting(), ULTRALYTICS, "smoke"), Worker(Path("log"), 4.0)
rule = next(rule for rule in RULES if rule.id == "REG-02")
worker.judge(plan, rule)
first = len(calls)
worker.judge(plan, rule)
Path("counts").write_text(f"[{first}, {len(calls) - first}, {2 * 3 * CASES}]")
"""


def test_a_worker_finds_out_once_which_classification_losses_work(tmp_path):
    subprocess.run([sys.executable, "-c", JUDGED_TWICE], cwd=tmp_path, check=True)
    first, second, to_find_out = json.loads((tmp_path / "counts").read_text())
    assert first - second == to_find_out


class Rude(ReferencePort):
    """Writes into a locked input through its memory."""

    def loss(self, case):
        if case.gt_cls.base is not None:
            case.gt_cls.base.setflags(write=True)
        case.gt_cls.setflags(write=True)
        case.gt_cls[...] = 0
        return super().loss(case)


@pytest.mark.parametrize("as_view", [True, False])
def test_an_input_that_was_changed_is_named_and_put_back(as_view, small_case):
    classes = np.array([1, 1])
    case = small_case.change(gt_cls=classes[:1] if as_view else classes[:1].copy())
    with pytest.raises(PortLost, match=r"^loss\(case\) changed its input gt_cls$"):
        WatchedPort(Rude(), 1.0).loss(case)
    assert case.gt_cls.tolist() == [1]
    assert not case.gt_cls.flags.writeable


REFUSALS = {
    MemoryError(): True,
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"): True,
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"): True,
    RuntimeError("CUDA out of memory. bad_alloc"): False,
    RuntimeError("shape mismatch"): False,
}


@pytest.mark.parametrize(("error", "refused"), REFUSALS.items())
def test_an_exception_of_a_framework_that_was_refused_memory_is_recognised(error, refused):
    assert memory.was_refused(error) == refused


def test_a_crash_is_placed_in_the_innermost_call_of_the_port(monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/usr/lib/python")
    log = ExitLog(CRASH.format(library="/usr/lib/python"))
    assert log.cause(-11, 60.0) == "the port ended the process (segmentation fault) in forward, loss.py line 12"
    assert not log.hung
    assert log.entry == ""


CAUSES = {
    None: "the port ended the process",
    0: "the port ended the process (exit status 0)",
    3: "the port ended the process (exit status 3)",
    -6: "the port ended the process (aborted)",
    -9: "the port ended the process (killed from outside, as a system out of memory does)",
}


@pytest.mark.parametrize(("status", "cause"), CAUSES.items())
def test_how_a_process_ended_is_said_in_words(status, cause):
    assert ExitLog("").cause(status, 60.0) == cause


def test_what_a_process_has_left_is_read_back(tmp_path):
    (tmp_path / "log").write_text(f'\n{ENTRY}{{"id": "BOX-01"}}')
    assert ExitLog.read(tmp_path / "log").entry == '{"id": "BOX-01"}'
    assert ExitLog.read(tmp_path / "none").entry == ""


def test_a_process_that_the_watchdog_has_ended_gave_no_answer():
    log = ExitLog("Timeout (0:01:05)!\nThread 0x")
    assert log.cause(1, 60.0).startswith("no answer within 60 s, not even to a signal: the port hangs")
    place = PortUnderTest.__init__.__code__.co_filename
    log = ExitLog(f'{log.text}\n  File "{place}", line 261 in _ask\n  File "{place}", line 140 in match\n')
    assert log.cause(1, 60.0).startswith("match(case): no answer within 60 s, not even to a signal")
