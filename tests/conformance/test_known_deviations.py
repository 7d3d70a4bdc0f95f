"""Known deviations: the list, what it makes of verdicts, and its draft."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tomllib

from detr_conformance.check_plan import CheckPlan
from detr_conformance.errors import UsageError
from detr_conformance.known_deviations import KnownDeviation, apply, draft, witnessed
from detr_conformance.known_deviations_file import load
from detr_conformance.options import CheckOptions
from detr_conformance.packets.files import keep
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import RuleResult, judge
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import ULTRALYTICS
from detr_conformance.reports.composing import compose, entry_of

from . import museum_ports

PORT = ReferencePort()
RULE = next(rule for rule in RULES if rule.id == "CLASS-01")
GOOD = '[[known-deviations]]\nrule = "CLASS-01"\nreason = "a thousandth too large"\n'


def written(folder, text, name="known.toml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_of_its_own_is_read(tmp_path):
    [deviation] = load(written(tmp_path, f'{GOOD}link = "https://example.org"\n'), PORT)["CLASS-01"]
    assert (deviation.reason, deviation.link) == ("a thousandth too large", "https://example.org")


def test_the_pyproject_of_the_current_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(None, PORT) == {}
    written(tmp_path, GOOD.replace("[[", "[[tool.detr-conformance."), "pyproject.toml")
    assert set(load(None, PORT)) == {"CLASS-01"}


def test_a_pyproject_without_a_list_lists_nothing(tmp_path):
    path = written(tmp_path, '[project]\nname = "port"\n', "pyproject.toml")
    assert load(None, PORT, tmp_path) == {}
    with pytest.raises(UsageError, match="lists no known deviations"):
        load(path, PORT)


REFUSED = {
    "[[known": "is no TOML",
    "known-deviations = 3": r"known-deviations is 3, expected a list of tables, \[\[known-deviations\]\]",
    "known-deviations = [3]": "known deviation 1 is 3, expected a table with rule, reason",
    'colour = "red"': r"has colour, which nothing here reads: expected \[\[known-deviations\]\]",
    GOOD.replace("rule", "rul"): "has the unknown field 'rul'",
    GOOD.replace("CLASS-01", "CLASS-99"): r"known deviation 1 \(CLASS-99\): there is no rule 'CLASS-99'",
    GOOD.replace("a thousandth too large", "  "): r"\(CLASS-01\): the reason is empty",
    GOOD.replace('reason = "a thousandth too large"', ""): "reason is missing, expected a text",
    f"{GOOD}link = 3": "link is 3, expected a text",
    f'{GOOD}dtype = "fp32"': "dtype is 'fp32', expected one of float16, bfloat16, float32, float64",
    f'{GOOD}device = "cuda:0"': "device is 'cuda:0', expected a name such as cpu or cuda",
    f'{GOOD}version = "numpy=="': "version is 'numpy==', expected a condition such as torch<2.4",
    f'{GOOD}version = "no-such-package<1"': "no-such-package is not installed",
    f'{GOOD}witness = "no/such.json"': r"its witness .*no/such.json cannot be read",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_a_list_that_cannot_be_used_is_refused_with_file_and_entry(text, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=REFUSED[text]) as refusal:
        load(path, PORT)
    assert path in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load(str(tmp_path / "nothing.toml"), PORT)


CONDITIONS = {
    'device = "cpu"': True,
    'device = "cuda"': False,
    'dtype = "float32"': True,
    'version = "numpy>=1"': True,
    'version = "numpy<1"': False,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_an_entry_holds_on_its_device_and_with_its_versions(condition, tmp_path):
    assert bool(load(written(tmp_path, GOOD + condition), PORT)) == CONDITIONS[condition]


def test_an_entry_about_a_dtype_that_a_port_does_not_take_is_no_entry(tmp_path):
    class Single(ReferencePort):
        dtypes = frozenset({"float32"})

    assert not load(written(tmp_path, f'{GOOD}dtype = "bfloat16"'), Single(name="single"))


def entry(verdict, case=None):
    return entry_of(RuleResult(RULE, verdict, "" if verdict == "pass" else "off by 0.1", case=case))


KNOWN = {"CLASS-01": [KnownDeviation("CLASS-01", "too large", link="https://example.org", where="known.toml: 1")]}


@pytest.mark.parametrize(
    ("verdict", "becomes"),
    [("fail", "xfail"), ("error", "xfail"), ("pass", "stale"), ("unsupported", "unsupported")],
)
def test_the_verdict_of_a_listed_rule(verdict, becomes):
    assert apply(entry(verdict), KNOWN).verdict == becomes
    assert apply(entry(verdict), {}).verdict == verdict


@pytest.mark.parametrize(("verdict", "becomes", "of_the_run"), [("fail", "xfail", True), ("pass", "stale", False)])
def test_a_listed_should_is_no_reason_against_the_port_but_a_stale_entry_is(verdict, becomes, of_the_run):
    should = next(rule for rule in RULES if rule.obligation == "SHOULD")
    found = apply(entry_of(RuleResult(should, verdict)), {should.id: KNOWN["CLASS-01"]})
    assert (found.verdict, found.is_remark, found.is_broken) == (becomes, of_the_run, not of_the_run)


def test_the_messages_say_what_is_known_and_what_came():
    assert apply(entry("fail"), KNOWN).message == "known: too large (https://example.org)\noff by 0.1"
    assert "remove it from the list" in apply(entry("pass"), KNOWN).message


def test_a_pass_on_a_case_that_somebody_chose_makes_nothing_stale():
    assert apply(entry("pass"), KNOWN, on_all_cases=False).verdict == "pass"


def test_a_failure_in_another_dtype_is_not_known(small_case):
    known = {"CLASS-01": [replace(KNOWN["CLASS-01"][0], dtype="bfloat16")]}
    assert apply(entry("fail", small_case), known).verdict == "fail"
    assert apply(entry("fail", small_case.change(dtype="bfloat16")), known).verdict == "xfail"


@pytest.fixture(scope="module")
def witness(tmp_path_factory):
    options, port = CheckOptions(port="museum_ports:hf_focal_argument_shift"), museum_ports.hf_focal_argument_shift()
    outcome = judge(RULE, port, level="smoke")
    return keep(outcome, port, ULTRALYTICS, options, str(tmp_path_factory.mktemp("packets")))


def test_a_witness_is_judged_before_anything_is_drawn(witness, tmp_path):
    known = load(written(tmp_path, f'{GOOD}witness = "{witness}"'), PORT)
    outcome = witnessed(RULE, known, museum_ports.hf_focal_argument_shift(), ULTRALYTICS)
    assert (outcome.verdict, outcome.examples) == ("fail", 0)
    assert witnessed(RULE, known, PORT, ULTRALYTICS) is None, "it does not show anything any more"
    assert witnessed(RULES[0], known, PORT, ULTRALYTICS) is None, "that rule is not listed"


def test_a_witness_with_an_option_that_the_port_does_not_have_is_no_witness(witness, tmp_path):
    known = load(written(tmp_path, f'{GOOD}witness = "{witness}"'), PORT)
    port = museum_ports.hf_focal_argument_shift()
    [*_, case] = known["CLASS-01"][0].witness
    port.options = {"gamma": (case.config.gamma + 1.0,)}
    assert witnessed(RULE, known, port, ULTRALYTICS) is None


def test_a_witness_of_another_rule_is_refused(witness, tmp_path):
    path = written(tmp_path, f'{GOOD.replace("CLASS-01", "CLASS-02")}witness = "{witness}"')
    with pytest.raises(UsageError, match="its witness is about CLASS-01, expected a packet of CLASS-02"):
        load(path, PORT)


def report_of(*entries):
    return compose(CheckPlan(PORT, ULTRALYTICS), entries, {})


def test_a_draft_lists_the_failures_and_leaves_the_reasons_to_be_given(tmp_path):
    odd = replace(RULE, id="CLASS-02")
    failing = entry_of(RuleResult(odd, "fail", 'line "one"\n[[known-deviations]]'))
    text = draft(report_of(entry("error"), failing, entry_of(RuleResult(RULES[0], "pass"))), {"CLASS-02": 'a"b.json'})
    first, second = tomllib.loads(text)["known-deviations"]
    assert first == {"rule": "CLASS-01", "reason": ""}
    assert second == {"rule": "CLASS-02", "reason": "", "witness": 'a"b.json'}
    with pytest.raises(UsageError, match="the reason is empty"):
        load(written(tmp_path, text), PORT)


def test_a_draft_does_not_lose_what_is_known():
    text = draft(report_of(apply(entry("fail"), KNOWN)))
    assert "CLASS-01" in text
    assert "known-deviations" not in tomllib.loads(text)
