"""`detr-conformance identify`: which convention a port follows."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

import msgspec
import numpy as np
import pytest

from detr_conformance.cli import main
from detr_conformance.identify import apart
from detr_conformance.identify.alternatives import largest_float
from detr_conformance.identify.answers import Answers, got, predicted
from detr_conformance.identify.found import Identification
from detr_conformance.identify.reporting import report_of
from detr_conformance.identify.searching import Search
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.options import CheckOptions
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS, replace_in
from detr_conformance.report import Diagnosis, KnownMistake
from detr_conformance.reports import facts
from detr_conformance.resolve import resolve
from tests.conformance import identified_ports as ports
from tests.correct.ports import CORRECT

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls of the reference for each port


def identify(port):
    search = Search(port, lambda _: None).run()
    return search, report_of(search)


def finding(found, field):
    return next(each for each in found.findings if each.field == field)


def test_a_gradient_that_is_asked_for_is_the_one_that_is_named(small_case):
    name, port = gradient_name("loss_class", "pred_scores"), ReferencePort()
    asked = got(Answers(port, lambda _: None), small_case, name, ULTRALYTICS)
    assert np.array_equal(asked, port.loss(small_case).gradients["loss_class"]["pred_scores"])
    assert np.array_equal(predicted(small_case, name, ULTRALYTICS).values, asked)
    assert asked.any()


@pytest.mark.thorough
@pytest.mark.parametrize("name", FAMILY)
def test_every_member_of_the_family_is_named(name):
    _, found = identify(ReferencePort(FAMILY[name]))
    assert found.nearest == [name]
    assert found.is_exact
    assert not found.differences
    assert not found.unexplained


@pytest.mark.thorough
@pytest.mark.parametrize("name", [port.name for port in CORRECT])
def test_a_correct_port_follows_what_it_names(name):
    port = next(port for port in CORRECT if port.name == name)
    search, found = identify(port)
    assert port.profile in found.nearest
    assert not search.against(FAMILY[port.profile])
    assert not found.unexplained


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_nine_hybrids_out_of_ten_are_found_in_all_fields():
    off = {}
    for number in range(ports.HYBRIDS):
        spec = ports.hybrid(number)
        search, found = identify(ReferencePort(spec))
        off[number] = [*ports.wrong_fields(search, spec), *found.unexplained]
    assert sum(not each for each in off.values()) >= 0.9 * ports.HYBRIDS, off


@pytest.mark.thorough
def test_the_answer_is_the_same_twice():
    port = next(port for port in CORRECT if port.name == "plain-torch")
    assert identify(port)[1].to_json() == identify(port)[1].to_json()


@pytest.mark.thorough
def test_what_only_gradients_show_is_not_told_without_them():
    _, found = identify(ports.without_gradients)
    weight = finding(found, "class_terms.varifocal")
    assert weight.told == "several"
    assert {each.source for each in weight.options} >= {
        'FAMILY["rtdetr"].class_terms["varifocal"]',
        'FAMILY["ultralytics"].class_terms["varifocal"]',
    }
    assert found.nearest == ["rtdetr"]
    assert any("detached" in line for line in found.not_asked)


@pytest.mark.thorough
def test_box_losses_show_the_matching_of_a_port_that_does_not():
    search, found = identify(ports.without_match)
    assert found.nearest == ["rtdetr"]
    assert search.is_known("matcher.guard")
    assert finding(found, "matcher.guard").told == "found"


@pytest.mark.thorough
def test_an_option_that_a_port_restricts_is_not_told():
    _, found = identify(ports.Lacking(RTDETR, gamma=(2.0,)))
    assert finding(found, "options").told == "several"
    assert any("gamma" in line and "restricts" in line for line in found.not_asked)


@pytest.mark.thorough
@pytest.mark.parametrize(("port", "name"), [(ports.without_masks, "detr"), (ports.without_ia_bce, "deformable")])
def test_of_members_that_cannot_be_told_apart_the_one_is_named_that_has_no_more_losses(port, name):
    assert identify(port)[1].nearest == [name]


@pytest.mark.thorough
def test_what_a_profile_leaves_open_is_no_difference_from_it():
    _, found = identify(ReferencePort(replace_in(RTDETR, "matcher.non_finite", largest_float)))
    assert finding(found, "matcher.non_finite").told == "found"
    assert found.is_exact


@pytest.mark.thorough
def test_a_mistake_is_no_convention():
    _, found = identify(ports.mistaken)
    assert found.nearest == ["ultralytics"]
    assert not found.is_exact
    assert finding(found, "normaliser.bbox").told == "none fits"
    assert finding(found, "normaliser.giou").told == "found"
    assert any("loss_bbox" in line for line in found.unexplained)


@pytest.mark.parametrize(
    ("port", "reason"),
    {
        "hanging": "did not answer within 2 s when it was asked for loss(case) with",
        "crashing": "ended its process (exit status 3) when it was asked for loss(case)",
        "raising": "loss(case) raised RuntimeError: no such thing",
        "breaking": "loss(case) returned str, expected a LossResult",
    }.items(),
)
def test_a_port_without_answers_cannot_be_identified(port, reason, refusal, monkeypatch):
    monkeypatch.setattr(apart, "SILENCE", 2.0)
    assert reason in refusal("identify", f"tests.conformance.identified_ports:{port}")


def test_losses_that_mean_nothing_are_no_convention(refusal):
    assert "no loss under a name that is known, only loss, total" in refusal(
        "identify", "tests.conformance.identified_ports:garbling"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command writes and says about a hybrid."""
    folder = tmp_path_factory.mktemp("written")
    files = {"--write": folder / "written_spec.py", "--json": folder / "found.json"}
    options = [str(part) for each in files.items() for part in each]
    assert main(["identify", "tests.conformance.identified_ports:mixed", *options]) == 0
    return folder


@pytest.mark.thorough
def test_the_written_module_is_a_profile_that_the_port_passes(written, monkeypatch):
    monkeypatch.syspath_prepend(written)
    options = CheckOptions(port="tests.conformance.identified_ports:mixed", profile="written_spec:SPEC")
    port, spec = resolve(options)
    judged = PortUnderTest(port, spec)
    drawn = islice(pool(ports.of_each_kind(spec), Domain.of(judged), 0), 10)
    certain = [case for case in drawn if oracle.matching_is_certain(case, spec)]
    assert len(certain) > 3
    for case in certain:
        judged.loss(case).assert_values(judged.expected(case))


@pytest.mark.thorough
def test_the_file_holds_what_was_found(written):
    found = msgspec.json.decode((written / "found.json").read_bytes(), type=Identification)
    spec = ports.hybrid(1)
    assert found.port == spec.name
    assert {each.field for each in found.differences}
    assert found.spec == (written / "written_spec.py").read_text()


@pytest.mark.thorough
def test_the_command_says_what_was_found(capsys):
    assert main(["identify", "tests.conformance.identified_ports:without_gradients"]) == 0
    out = capsys.readouterr().out
    assert "lacking follows rtdetr" in out
    assert "could not tell:" in out
    assert "Nothing is added" in out


HINT = "detr-conformance identify my_port:MyPort says which convention it follows"
MANY_FAIL = {f"{family}-0{number}": "fail" for family in ("CLASS", "REG", "AUX", "GRAD") for number in (1, 2, 3)}
ASKED = ["my_port:MyPort", "--profile", "ultralytics"]


def hint_of(report):
    return facts.hint(msgspec.structs.replace(report, port=msgspec.structs.replace(report.port, asked=ASKED)))


@pytest.mark.parametrize(
    ("said", "diagnosis", "hint"),
    {
        "another convention": ({"REG-01": "fail"}, Diagnosis(message="", profile="rtdetr"), HINT),
        "a riddle": (MANY_FAIL, None, HINT),
        "a known mistake": (
            MANY_FAIL,
            Diagnosis(message="", deviations=[KnownMistake(id="id", story="", link="")]),
            "",
        ),
        "one failure": ({"REG-01": "fail"}, None, ""),
        "none": ({}, None, ""),
    }.values(),
)
def test_a_report_hints_at_it_where_a_port_may_follow_another_convention(make_report, said, diagnosis, hint):
    assert hint_of(make_report(said, diagnosis=diagnosis)) == hint


@pytest.mark.thorough
def test_check_hints_at_it_where_a_port_passes_the_rules_of_another_profile():
    port = "tests.conformance.identified_ports:astray"
    rules = ["--", "-k", "CLASS-02 or REG-01 or GRAD-02 or DN-01"]
    command = [sys.executable, "-m", "detr_conformance", "check", port, "--level", "smoke", *rules]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1, said.stderr
    words = " ".join(said.stdout.split())
    assert "judge it with --profile rtdetr" in words
    assert f"detr-conformance identify {port} says which convention it follows" in words
