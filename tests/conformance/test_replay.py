"""`detr-conformance replay`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detr_conformance.cli import main
from detr_conformance.errors import UsageError
from detr_conformance.options import CheckOptions
from detr_conformance.packets.files import keep
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import ULTRALYTICS
from detr_conformance.replay import PASSES, load, replayed_on

from . import museum_ports

HERE = Path(__file__).parent
RULE = next(rule for rule in RULES if rule.id == "CLASS-01")


@pytest.fixture(scope="module")
def packet_path(tmp_path_factory):
    """A packet of a focal loss with its arguments in the wrong places."""
    options, port = CheckOptions(port="museum_ports:hf_focal_argument_shift"), museum_ports.hf_focal_argument_shift()
    outcome = judge(RULE, port, level="smoke")
    return keep(outcome, port, ULTRALYTICS, options, str(tmp_path_factory.mktemp("packets")))


@pytest.mark.usefixtures("beside_the_samples")
def test_what_fails_as_before_has_exit_status_1(packet_path, capsys):
    assert main(["replay", str(packet_path)]) == 1
    out = capsys.readouterr().out
    assert "then: fail, hf-focal-argument-shift: loss_class" in out
    assert "now: fail, hf-focal-argument-shift: loss_class" in out
    assert out.count("loss(case): loss_class: expected") == 2


def test_what_passes_now_has_exit_status_0(packet_path, capsys):
    assert main(["replay", str(packet_path), "--port", "reference"]) == 0
    assert capsys.readouterr().out.endswith(f"now: pass, reference\n{PASSES}\n")


def test_nothing_is_drawn(packet_path):
    program = (
        "import hypothesis.core, sys\n"
        "hypothesis.core.StateForActualGivenExecution = None\n"
        "from detr_conformance.cli import main\n"
        "sys.exit(main(['replay', *sys.argv[1:], '--port', 'reference']))"
    )
    command = [sys.executable, "-c", program, str(packet_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def changed(path, folder, **changes):
    """The packet with other fields."""
    document = json.loads(path.read_text())
    other = folder / "packet.json"
    other.write_text(json.dumps({**document, **changes}))
    return str(other)


def refusal(capsys, *arguments):
    __tracebackhide__ = True
    assert main(["replay", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_packet_that_cannot_be_used_is_refused(packet_path, capsys, tmp_path):
    assert "no/such cannot be read" in refusal(capsys, "no/such")
    (tmp_path / "latin").write_bytes(b"\xff")
    assert "is not UTF-8 text" in refusal(capsys, str(tmp_path / "latin"))
    (tmp_path / "report").write_text("{}")
    assert "report: not a packet" in refusal(capsys, str(tmp_path / "report"))
    rule = {"id": "CLASS-99", "title": "", "statement": "", "source": ""}
    path = changed(packet_path, tmp_path, rule=rule)
    assert "there is no rule 'CLASS-99' in this release" in refusal(capsys, path, "--port", "reference")
    path = changed(packet_path, tmp_path, profile="nobody")
    assert "there is no profile 'nobody'" in refusal(capsys, path, "--port", "reference")
    assert "did you mean reference?" in refusal(capsys, str(packet_path), "--port", "refrence")


def test_a_port_that_does_not_declare_what_the_rule_needs_is_refused(packet_path):
    class Modest(ReferencePort):
        capabilities = frozenset({"varifocal"})

    packet, case = load(packet_path)
    with pytest.raises(UsageError, match="cannot judge the case of this packet"):
        replayed_on(packet, case, Modest(name="modest"), ULTRALYTICS)


def test_a_port_that_does_not_have_the_options_of_the_case_is_refused(packet_path):
    packet, case = load(packet_path)
    port = ReferencePort(name="hard-coded")
    port.options = {"gamma": (case.config.gamma + 1.0,)}
    with pytest.raises(UsageError, match="cannot judge the case of this packet: the case asks for gamma"):
        replayed_on(packet, case, port, ULTRALYTICS)


def test_control_characters_of_a_packet_do_not_reach_the_terminal(packet_path, capsys, tmp_path):
    path = changed(packet_path, tmp_path, message="\x1b[31mred")
    main(["replay", path, "--port", "reference"])
    assert "\x1b" not in capsys.readouterr().out
