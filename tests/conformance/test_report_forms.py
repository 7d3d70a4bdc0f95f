from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.cli import main
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import RTDETR, ULTRALYTICS
from detr_conformance.report import Diagnosis, Divergence, KnownMistake
from detr_conformance.reports.badge import badge
from detr_conformance.reports.composing import compose
from detr_conformance.reports.junit import junit
from detr_conformance.reports.markdown import LARGEST, markdown
from detr_conformance.reports.packet import replay

from ..properties.sample_cases import BASE_RULES

PASSED = sum(rule.family in ("NUM", "GRAD") for rule in BASE_RULES) - 2
"""Of these families, without the two that are remarks below."""
SAID = {
    "BOX-01": "fail",
    "BOX-02": "error",
    "BOX-03": "unsupported",
    "BOX-04": "xfail",
    "BOX-05": {"verdict": "stale"},
}


@pytest.fixture
def report(make_report):
    return make_report(SAID, judged="BOX|REG")


def without_times(shown):
    """A report knows neither how many rules were about to be judged, in the first line, nor how long anything took."""
    shown = re.sub(r"looking for .*\n", "", shown)
    return shown.partition("\n")[2].rpartition(";")[0]


CHOSEN = "CLASS-01 or API-01"


def test_without_an_output_the_report_is_printed_as_a_run_with_every_rule_was(check, capsys, monkeypatch, tmp_path):
    path = str(tmp_path / "report.json")
    shown = check("sample_ports:wrong", "--json", path, "--every-rule", "--", "-n", "0", "-k", CHOSEN).stdout
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["report", path]) == 0
    assert without_times(capsys.readouterr().out) == without_times(shown)


def test_every_output_that_is_asked_for_is_written_and_nothing_else(write_report, capsys, tmp_path):
    path = write_report("report.json", SAID)
    forms = {"--html": "page.html", "--markdown": "summary.md", "--junit": "junit.xml", "--badge": "badge.json"}
    options = [word for option, name in forms.items() for word in (option, str(tmp_path / name))]
    assert main(["report", path, *options]) == 0
    assert capsys.readouterr().out == ""
    assert {each.name for each in tmp_path.iterdir()} == {"report.json", *forms.values()}


def test_no_output_may_overwrite_the_report_or_another_output(write_report, refusal, tmp_path):
    path, other = write_report("report.json"), str(tmp_path / "other")
    assert "would overwrite the report itself" in refusal("report", path, "--badge", path)
    assert "would overwrite what --html writes" in refusal("report", path, "--html", other, "--badge", other)
    assert "cannot be written" in refusal("report", path, "--html", str(tmp_path))


@pytest.mark.parametrize(
    ("said", "judged", "message", "colour"),
    [
        ({}, ".", "conformant", "brightgreen"),
        ({"BOX-01": "unsupported"}, ".", f"partial: {len(BASE_RULES) - 1} of {len(BASE_RULES)}", "yellow"),
        ({}, "REG-0[12]", f"partial: 2 of {len(BASE_RULES)}", "yellow"),
        ({"BOX-01": "fail"}, ".", "non-conformant", "red"),
        ({"NUM-05": "fail"}, ".", "conformant, 1 remark", "brightgreen"),
        ({"NUM-05": "unsupported"}, ".", "conformant", "brightgreen"),
        ({"NUM-05": "stale"}, ".", "non-conformant", "red"),
        (
            {"NUM-05": "error", "GRAD-09": "xfail"},
            "NUM|GRAD",
            f"partial: {PASSED} of {len(BASE_RULES)}, 2 remarks",
            "yellow",
        ),
    ],
)
def test_a_badge_says_the_verdict(said, judged, message, colour, make_report):
    document = json.loads(badge(make_report(said, judged=judged)))
    assert document == {"schemaVersion": 1, "label": "DETR loss", "message": message, "color": colour}


ALLOWED = {  # of the JUnit XSD that Jenkins and GitLab read
    "testsuites": ({"name", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"properties", "testcase"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"classname", "name"}, {"failure", "error", "skipped"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
}


def test_junit_has_the_usual_form(report):
    for element in ET.fromstring(junit(report).encode()).iter():  # noqa: S314  # our own
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children


def test_junit_has_a_test_for_each_rule_and_counts_them(report):
    [suite] = ET.fromstring(junit(report).encode())  # noqa: S314  # our own
    cases = {case.get("name").split()[0]: [child.tag for child in case] for case in suite.iter("testcase")}
    expected = {"BOX-01": ["failure"], "BOX-02": ["error"], "BOX-03": ["skipped"], "BOX-04": ["skipped"]}
    assert {rule: cases[rule] for rule in expected} == expected
    assert cases["BOX-05"] == ["failure"]
    assert cases["BOX-06"] == []
    assert cases["API-01"] == ["skipped"], "not judged"
    assert int(suite.get("tests")) == len(cases) == len(BASE_RULES)
    for tag, attribute in {"failure": "failures", "error": "errors", "skipped": "skipped"}.items():
        assert int(suite.get(attribute)) == len(list(suite.iter(tag)))


def test_a_remark_is_told_in_every_form_and_makes_no_test_of_the_ci_system_fail(make_report, capsys):
    from detr_conformance.console import Display
    from detr_conformance.reports.page import page

    report = make_report({"NUM-05": "fail"})
    Display().again(report)
    console = capsys.readouterr().out
    assert "remark NUM-05 non finite predictions stay visible" in console
    assert "\nconformant, 1 remark: " in console
    for text in (" ".join(console.split()), markdown(report), page(report), junit(report)):
        assert "this says how soon one that goes wrong is noticed" in text
    [suite] = ET.fromstring(junit(report).encode())  # noqa: S314  # our own
    assert [suite.get(each) for each in ("failures", "errors", "skipped")] == ["0", "0", "1"]
    assert "remark: why" in {element.get("message") for element in suite.iter("skipped")}


def tokens(text):
    """Markdown as GitHub reads it, one element after another."""
    from markdown_it import MarkdownIt

    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    return [inner for token in parsed for inner in (token, *(token.children or []))]


def test_the_summary_has_a_row_for_each_rule_and_what_came_instead(report):
    text = markdown(report)
    assert text.startswith("## ❌ sample is non-conformant\n")
    rows = [line for line in text.splitlines() if line.startswith("| BOX-01 ")]
    assert len(rows) == 2, "among the broken rules, and among all"
    assert "| fail | " in rows[0]
    assert rows[0].endswith("| why |")
    assert sum(token.type == "tr_open" for token in tokens(text)) == 2 + 3 + len(BASE_RULES)


def test_a_message_stays_text_in_the_summary(make_report):
    hostile = "a|b <b>c</b> `d` **e** [f](http://g) ![h](i) </details> @j #1 \\| $k$ ~~l~~ www.m.n __o__ <!-- p"
    parsed = tokens(markdown(make_report({"BOX-01": {"verdict": "fail", "message": hostile}})))
    assert any(hostile in "".join(each.content for each in token.children or []) for token in parsed)
    raw = {token.content for token in parsed if token.type in ("html_inline", "html_block")}
    assert all(re.fullmatch(r"(</?(details|summary)>|All \d+ rules|\n)+", html) for html in raw), raw
    assert not {token.type for token in parsed} & {"link_open", "image", "code_inline", "strong_em", "s_open"}


def test_the_summary_is_never_too_large_to_be_shown(make_report):
    long = {"verdict": "fail", "message": "<|>\n" * 400, "title": "`" * 5000, "statement": "<" * 5000}
    text = markdown(make_report({rule.id: long for rule in RULES}))
    assert len(text.encode()) < LARGEST + 100
    assert text.endswith("More does not fit here: see the report.\n")


def test_a_diagnosis_and_a_divergence_are_told_in_every_form(make_report, capsys):
    from detr_conformance.console import Display
    from detr_conformance.reports.page import page

    mistake = KnownMistake(id="focal-alpha", story="alpha is swapped", link="https://example.org/1")
    divergence = Divergence(step="cost", what="costs", where=[0], expected="1", got="2", message="first at the cost")
    said = {"verdict": "fail", "message": "why", "blocked_by": "BOX-02", "divergence": divergence}
    diagnosis = Diagnosis(message="one mistake", deviations=[mistake], profile="rtdetr")
    report = make_report({"BOX-01": said, "BOX-02": "fail"}, diagnosis=diagnosis)
    Display().again(report)
    for text in (capsys.readouterr().out, markdown(report), page(report)):
        for word in ("one mistake", "focal-alpha", "alpha is swapped", "https://example.org/1", "first at the cost"):
            assert word in text
    assert "first at the cost" in junit(report)


def test_what_the_port_restricts_is_told_by_the_run_the_report_and_the_page(capsys):
    from detr_conformance.console import Display
    from detr_conformance.reports.page import page

    port = ReferencePort()
    port.options = {"gamma": (2.0, 3.0), "loss_gain": ({"class": 1.0, "bbox": 5.0, "giou": 2.0},)}
    port.keys = RTDETR.keys
    plan = CheckPlan(port, ULTRALYTICS)
    Display().opening(plan)
    Display().again(compose(plan, [], {}))
    said = "gamma only 2.0 or 3.0; loss_gain only class 1.0, bbox 5.0, giou 2.0; keys of its own, LayerKeys"
    assert " ".join(capsys.readouterr().out.split()).count(said) == 2
    text = page(compose(plan, [], {}))
    assert "<dt>loss_gain</dt><dd>only class 1.0, bbox 5.0, giou 2.0</dd>" in text
    assert "<dt>keys of its own</dt><dd>LayerKeys</dd>" in text


def test_what_follows_from_another_failure_comes_last(make_report, capsys):
    from detr_conformance.console import Display

    blocked = {"verdict": "fail", "message": "m", "blocked_by": "REG-01"}
    Display().again(make_report({"BOX-01": blocked, "REG-01": "fail"}))
    failures = re.findall(r"^fail (\S+)", capsys.readouterr().out, re.MULTILINE)
    assert failures == ["REG-01", "BOX-01"]


def test_the_command_that_replays_a_case_names_the_port_as_it_was_asked_for(make_report):
    report = make_report({"CLASS-01": "fail"})
    asked = ["my_port:Criterion", "--adapter", "ultralytics"]
    entry = next(each for each in report.rules if each.id == "CLASS-01")
    named = msgspec.structs.replace(report, port=msgspec.structs.replace(report.port, asked=asked))
    assert replay(report, entry)[0] == "detr-conformance check PORT"
    assert replay(named, entry)[0] == "detr-conformance check my_port:Criterion --adapter ultralytics"
