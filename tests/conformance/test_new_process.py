"""A failure in a new process: what it owes to the calls before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detr_conformance.cli import main
from detr_conformance.diagnosis import apart
from detr_conformance.diagnosis.explaining import compared_with
from detr_conformance.known_deviations import witnessed
from detr_conformance.known_deviations_file import load
from detr_conformance.options import CheckOptions
from detr_conformance.packets import new_process
from detr_conformance.packets.files import keep
from detr_conformance.packets.new_process import Server, told_in_new_process
from detr_conformance.packets.packet import read
from detr_conformance.packets.script import MOST_LINES
from detr_conformance.properties.judging import RuleResult, judge
from detr_conformance.properties.port_under_test import PortTimeout
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import ULTRALYTICS
from detr_conformance.reports.composing import entry_of

from . import museum_ports, new_process_ports

HERE = Path(__file__).parent
RULE = next(rule for rule in RULES if rule.id == "REG-01")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    new_process_ports.asked.clear()
    kept = new_process._server
    yield
    kept.cache_clear()


def options(name):
    return CheckOptions(port=f"new_process_ports:{name}")


def failure(case, earlier=()):
    return RuleResult(RULE, "fail", "off by 0.1", case=case, earlier=earlier)


def told(name, case, earlier=()):
    return told_in_new_process(failure(case, earlier), options(name))


def test_what_is_wrong_at_once_needs_nothing_before(small_case):
    account = told("wrong", small_case, (small_case.change(gamma=3.0),))
    assert (account.broken, account.shown, account.earlier) == (True, True, [])
    assert any(line.off for call in account.calls for line in call.lines)


def test_what_is_wrong_later_needs_a_call_before(small_case):
    before = small_case.change(gamma=3.0)
    account = told("wrong_later", small_case, (before,))
    assert account.shown
    assert [each["config"]["gamma"] for each in account.earlier] == [before.config.gamma.hex()]


def test_without_a_case_before_it_is_asked_with_other_gains(small_case):
    account = told("wrong_later", small_case)
    [earlier] = account.earlier
    assert earlier["config"]["loss_gain"]["bbox"] == (2.0 * small_case.config.loss_gain["bbox"]).hex()


def test_what_is_right_after_everything_breaks_no_rule(small_case):
    account = told("right", small_case, (small_case.change(gamma=3.0),))
    assert (account.broken, account.shown) == (False, False)


def test_a_process_without_an_answer_is_none_and_the_next_one_is_asked(small_case):
    assert told("ending", small_case) is None
    assert told("ending", small_case) is None
    assert told("no_such_port", small_case) is None
    assert told("wrong", small_case).shown


def test_a_hanging_port_is_asked_once(small_case, monkeypatch):
    slow = Server(options("hanging"), sys.path)
    slow.end()
    slow.program = slow.program.replace(
        "import serve;", "import serve; import detr_conformance.packets.new_process as module; module.SECONDS = 1;"
    )
    slow.process = slow._started()
    monkeypatch.setattr(new_process, "_server", lambda *_: slow)
    assert told("hanging", small_case) is None
    assert slow.lost
    monkeypatch.setattr(slow, "_answer", None)
    assert told("hanging", small_case) is None
    slow.end()


def test_where_processes_cannot_be_copied_each_answers_once(small_case, monkeypatch):
    single = Server(options("wrong_later"), sys.path)
    single.end()
    single.program = f"import os; del os.fork; {single.program}"
    single.process = single._started()
    monkeypatch.setattr(new_process, "_server", lambda *_: single)
    monkeypatch.setattr(new_process, "COPIES", False)
    assert told("wrong_later", small_case).earlier
    assert told("wrong_later", small_case).earlier
    single.end()


def test_when_time_is_up_no_answer_is_left_for_the_next_question(small_case, monkeypatch):
    def interrupted(*_):
        raise PortTimeout("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(Server, "ask", interrupted)
        with pytest.raises(PortTimeout):
            told("wrong", small_case)
    assert new_process._server.cache_info().currsize == 0
    assert told("wrong", small_case).shown


def test_the_report_says_what_a_new_process_says(small_case):
    entry = entry_of(failure(small_case))
    assert compared_with(entry, None) == entry
    assert compared_with(entry, told("wrong", small_case)) == entry
    later = compared_with(entry, told("wrong_later", small_case)).message
    assert later == "off by 0.1; in a new process it passes, so the port keeps something from one call to the next"
    assert compared_with(entry, told("right", small_case)).message == f"{later}, or draws at random"


@pytest.fixture
def packet_path(tmp_path):
    """Of the mistake of a default that the first loss writes into."""
    asked_for = CheckOptions(port="museum_ports:paddle_mutable_default_gains")
    port = museum_ports.paddle_mutable_default_gains()
    outcome = judge(RULE, port, level="smoke")
    assert outcome.earlier
    return keep(outcome, port, ULTRALYTICS, asked_for, str(tmp_path), told_in_new_process(outcome, asked_for))


def test_a_failure_that_no_new_process_shows_is_told_as_it_is_here(small_case, tmp_path):
    account = told("right", small_case)
    path = keep(failure(small_case), new_process_ports.wrong, ULTRALYTICS, options("wrong"), str(tmp_path), account)
    packet, _ = read(path.read_text())
    assert (packet.shown, packet.earlier) == (True, [])


def test_the_script_asks_what_has_to_be_asked_first(packet_path):
    script = packet_path.with_name(f"replay_{packet_path.stem}.py")
    assert len(script.read_text().splitlines()) <= MOST_LINES
    done = subprocess.run([sys.executable, str(script)], cwd=HERE, env={"PYTHONPATH": str(HERE)}, check=False)
    assert done.returncode == 1


def test_replay_asks_what_has_to_be_asked_first(packet_path, capsys):
    assert main(["replay", str(packet_path)]) == 1
    assert "now: fail, paddle-mutable-default-gains" in capsys.readouterr().out
    assert main(["replay", str(packet_path), "--port", "reference"]) == 0


def test_a_witness_is_asked_what_has_to_be_asked_first(packet_path, tmp_path):
    (tmp_path / "known.toml").write_text(
        f'[[known-deviations]]\nrule = "{RULE.id}"\nreason = "a default"\nwitness = "{packet_path.name}"\n'
    )
    port = museum_ports.paddle_mutable_default_gains()
    known = load(str(tmp_path / "known.toml"), port)
    assert len(known[RULE.id][0].witness) == 2
    assert witnessed(RULE, known, port, ULTRALYTICS).verdict == "fail"


@pytest.mark.usefixtures("beside_the_samples")
def test_check_says_so_too(capsys, monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", dict.fromkeys(apart.SECONDS, 0))
    arguments = [
        "check",
        "museum_ports:paddle_mutable_default_gains",
        "--level",
        "smoke",
        "--every-rule",
        "--",
        "-k",
        "REG-06 or INV-01",
    ]
    assert main(arguments) == 1
    assert "keeps something from one call to the next" in " ".join(capsys.readouterr().out.split())
