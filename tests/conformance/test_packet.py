"""Packets: what a failure leaves behind, and the script that shows it without the suite."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from detr_conformance.errors import UsageError
from detr_conformance.mutants import MUSEUM
from detr_conformance.options import CheckOptions
from detr_conformance.packets.files import keep, refuse_unwritable_folder, safe, written
from detr_conformance.packets.losses import loss_lines
from detr_conformance.packets.packet import FORMAT, read
from detr_conformance.packets.script import MOST_LINES
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import recorded
from detr_conformance.properties.judging import RuleResult, judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import FAMILIES
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import ULTRALYTICS
from detr_conformance.resolve import resolve

from ..thorough import thorough_but
from . import museum_ports
from .bare import bare_python

HERE = Path(__file__).parent
LONGEST_LINE = 150


def failure(mutant) -> RuleResult:
    """What a rule of its family says that fails it with a case; of those that are known to, the quickest."""
    kills = recorded().kills[mutant.id]
    of_family = [each for each in RULES if each.family == mutant.family and each.id in kills]
    for rule in sorted(of_family, key=lambda rule: kills[rule.id].cases):
        outcome = judge(rule, mutant.port(), level=kills[rule.id].level, shrink=False)
        if outcome.verdict in ("fail", "error") and outcome.case is not None:
            return outcome
    raise AssertionError(f"no rule of {mutant.family} fails {mutant.id}")


def kept(mutant, folder) -> Path:
    """The packet of that."""
    options = CheckOptions(port=f"museum_ports:{museum_ports.attribute_of(mutant.id)}")
    path = keep(failure(mutant), mutant.port(), mutant.home, options, str(folder))
    assert path is not None
    return path


def script_of(path: Path) -> Path:
    return path.with_name(f"replay_{path.stem}.py")


def named(name):
    return next(each for each in MUSEUM if each.id == name)


@pytest.fixture
def packet_path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    return kept(named("plausible-bce-hard-labels"), tmp_path)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("name", "rule_id", "method"),
    [
        ("hf-detr-normaliser-divided-twice", "RANK-01", "losses_of_ranks"),
        ("plausible-mean-of-micro-batches", "RANK-09", "losses_of_steps"),
        ("hf-deformable-class-cost-of-one", "API-09", "defaults"),
        ("plausible-matcher-draws-a-sixteenth", "MASK-25", "point_counts"),
    ],
)
def test_a_packet_shows_what_ranks_micro_batches_and_constructors_do(name, rule_id, method, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    mutant, rule = named(name), next(each for each in RULES if each.id == rule_id)
    options = CheckOptions(port=f"museum_ports:{museum_ports.attribute_of(mutant.id)}")
    outcome = judge(rule, mutant.port(), level="smoke", shrink=False)
    path = keep(outcome, mutant.port(), mutant.home, options, str(tmp_path))
    packet, _ = read(path.read_text())
    assert packet.shown
    assert [call.method for call in packet.calls] == [method]
    assert status(script_of(path)) == 1


def status(script: Path) -> object:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script))
    return ended.value.code


@pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls for each mutant
@pytest.mark.parametrize(
    ("family", "every_nth"), thorough_but([(each, 40) for each in (*FAMILIES,)[::3]], product(FAMILIES, (40, 5)))
)
def test_the_script_of_every_mutant_shows_it(family, every_nth, tmp_path):
    mutants = [each for each in MUSEUM if each.family == family][::every_nth]
    scripts = {str(script_of(kept(each, tmp_path / each.id))): each.id for each in mutants}
    for script in map(Path, scripts):
        assert len(script.read_text().splitlines()) <= MOST_LINES
    command = [sys.executable, str(HERE / "run_bare.py"), str(HERE), *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for script, (code, printed) in json.loads(done.stdout).items():
        assert printed, f"{scripts[script]}: the script shows nothing"
        assert code == 1 or isinstance(code, str), f"{scripts[script]}: nothing is wrong, says\n{printed}"


def test_a_script_has_at_most_twenty_lines_that_can_be_read(packet_path):
    lines = script_of(packet_path).read_text().splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= LONGEST_LINE


def test_a_packet_has_the_case_the_rule_expected_got_and_versions(packet_path):
    document = json.loads(packet_path.read_text())
    assert document["format"] == FORMAT
    assert document["rule"]["id"].startswith("CLASS-")
    assert {"python", "numpy"} <= set(document["versions"])
    [line, *_] = [line for line in document["calls"][-1]["lines"] if line["got"] != line["expected"]]
    assert float(line["got"]) != float(line["expected"])
    _, case = read(packet_path.read_text())
    assert case == read(packet_path.read_text())[1]


def test_a_right_port_changes_what_the_script_says(packet_path, capsys):
    script = script_of(packet_path)
    script.write_text(
        script.read_text().replace(
            "from museum_ports import", "from detr_conformance.ports.reference_port import port as"
        )
    )
    assert not status(script)
    assert "expected" in capsys.readouterr().out


def test_a_packet_allows_the_dtypes_that_the_rules_allow(small_case):
    port = ReferencePort()
    answer = port.loss(small_case.change(aux_loss=False))
    in_half = replace(answer, dtypes=dict.fromkeys(answer.losses, "float16"))
    lines = loss_lines("loss", in_half, (small_case.change(aux_loss=False),), PortUnderTest(port), [])
    wrong = {line.what for line in lines if line.off}
    assert wrong == {f"dtype of {key}" for key, loss in answer.losses.items() if loss}
    assert wrong, "some losses are not 0"
    assert len(wrong) < len(answer.losses), "those of denoising queries are 0"


def test_the_picture_lies_beside_the_packet(packet_path):
    assert ET.parse(packet_path.with_suffix(".svg")).getroot().tag.endswith("svg")  # noqa: S314  # our own


def test_names_of_files_hold_nothing_that_leads_elsewhere():
    assert safe("../../etc/Passwd\x00 é") == "etc-passwd"
    assert safe("…") == "port"
    assert len(safe("x" * 500)) <= 60


def test_a_draft_beside_the_packets_can_name_them(packet_path, tmp_path):
    rule_id, *_ = json.loads(packet_path.read_text())["rule"].values()
    named_by = written([rule_id, "API-99"], "plausible-bce-hard-labels", str(tmp_path), str(tmp_path / "a" / "b.toml"))
    assert named_by == {rule_id: f"../{packet_path.name}"}
    assert written([rule_id], "plausible-bce-hard-labels", None, "known.toml") == {}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        refuse_unwritable_folder(str(tmp_path / "file"))
    refuse_unwritable_folder(str(tmp_path / "new"))
    assert not list((tmp_path / "new").iterdir())


def test_what_passes_or_has_no_case_leaves_no_packet(tmp_path):
    options, port = CheckOptions(port="reference"), named("plausible-bce-hard-labels").port()
    assert keep(RuleResult(RULES[0], "pass"), port, ULTRALYTICS, options, str(tmp_path)) is None
    assert keep(RuleResult(RULES[0], "error", "hangs"), port, ULTRALYTICS, options, str(tmp_path)) is None
    assert not list(tmp_path.iterdir())


BAD_PACKETS = {
    "": "not a packet",
    "[]": "not a packet: expected a JSON object",
    '{"format": "detr-conformance packet"}': "a packet of version None",
    '{"format": "detr-conformance packet", "schema_version": 1}': "not a packet (Object missing required field",
    "[" * 100_000: "not a packet",
}


@pytest.mark.parametrize("text", BAD_PACKETS, ids=range(len(BAD_PACKETS)))
def test_what_is_no_packet_is_refused(text):
    with pytest.raises(UsageError) as refusal:
        read(text)
    assert BAD_PACKETS[text] in str(refusal.value)


def test_every_mutant_is_an_attribute():
    assert all(getattr(museum_ports, museum_ports.attribute_of(each.id))().name == each.id for each in MUSEUM)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["hf-focal-argument-shift", "khub-bigM-float32", "plausible-global-seed", "paddle-dn-box-space"]
)
def test_a_script_runs_where_there_is_no_hypothesis_and_no_pytest(name, tmp_path, bare_environment):
    script = script_of(kept(named(name), tmp_path))
    (tmp_path / "museum_ports.py").write_text((HERE / "museum_ports.py").read_text())
    done = subprocess.run([bare_environment, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare"))


LOSS_CLASSES = '''
import torch


class Loss:
    """Has Ultralytics' signature, and returns what nobody expects."""

    def __init__(self, nc, **options):
        self.nc = nc

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        main = {f"loss_{term}{part}": preds[0].sum() for term in ("class", "bbox", "giou") for part in ("", "_aux")}
        groups = 0 if dn_meta is None else dn_meta["dn_num_group"] * dn_scores.sum()
        return {**main, **{f"{key}_dn": groups + 0.0 * loss for key, loss in main.items()}}
'''


@pytest.mark.parametrize("rule_id", thorough_but(["GRAD-02"], ["REG-01", "GRAD-02", "DN-01", "DN-19", "NUM-06"]))
def test_the_script_of_a_loss_class_needs_torch_alone(rule_id, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (tmp_path / "loss_classes.py").write_text(LOSS_CLASSES)
    monkeypatch.syspath_prepend(tmp_path)
    options = CheckOptions(port="loss_classes:Loss", adapter="ultralytics")
    port, profile = resolve(options)
    outcome = judge(next(rule for rule in RULES if rule.id == rule_id), port, profile, level="smoke")
    script = script_of(keep(outcome, port, profile, options, str(tmp_path)))
    assert len(script.read_text().splitlines()) <= MOST_LINES
    assert ("detr_conformance" in script.read_text()) == (rule_id == "NUM-06"), "several calls of one object"
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
