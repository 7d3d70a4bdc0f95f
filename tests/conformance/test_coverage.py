"""The rules ask for what is promised, from end to end, as `coverage.json` and `docs/coverage.md` say."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detr_conformance.cli import main
from detr_conformance.coverage import (
    LEVELS,
    RANGES,
    Coverage,
    Figures,
    Recorder,
    asked_for,
    figures_of,
    recorded,
    sizes_of,
    unreached,
)
from detr_conformance.coverage_text import markdown
from detr_conformance.power import RULE
from detr_conformance.properties.judging import judge

from ..properties.sample_cases import small_case

RECORD = recorded()


def test_the_rules_ask_for_both_ends_of_every_range_as_recorded():
    assert list(unreached(RECORD.figures["smoke"])) == []


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("shapes_unchecked")
def test_the_rules_ask_for_both_ends_of_every_range_at_smoke():
    assert list(unreached(figures_of(asked_for("smoke")))) == []


def test_an_end_that_is_not_reached_is_named():
    short = RECORD.figures["smoke"] | {"queries": Figures(least=1, most=301, at_least=4, at_most=0, distinct=9)}
    assert list(unreached(short)) == ["queries: no case at or above 900, the most is 301"]


def test_the_record_is_about_these_options():
    assert RECORD.figures["smoke"].keys() == RANGES.keys()
    assert RECORD.figures.keys() == set(LEVELS)
    assert msgspec.json.decode(RECORD.to_json(), type=Coverage) == RECORD


def test_the_document_is_that_of_the_record(pytestconfig):
    path = pytestconfig.rootpath / "docs" / "coverage.md"
    assert path.read_text(encoding="utf-8") == markdown(RECORD), "run detr-conformance coverage, as its head says"


@pytest.mark.usefixtures("shapes_unchecked")
def test_every_question_of_a_rule_is_counted():
    recorder = Recorder()
    outcome = judge(RULE["CLASS-19"], recorder, level="smoke")
    assert outcome.verdict == "pass"
    assert {0.0, 5.0} <= recorder.values["gamma"].keys()
    assert recorder.words["question"]["loss"] == recorder.words["dtype"].total() > outcome.examples


def test_the_sizes_of_a_case_are_its_own():
    case = small_case()
    sizes = sizes_of(case)
    assert (sizes["layers"], sizes["queries"], sizes["targets"]) == (case.layers, case.queries, len(case.gt_cls))
    assert sizes["largest logit"] == np.abs(case.pred_scores).max()
    assert sizes.keys() == RANGES.keys() - {"calls of one object"}


def test_a_file_that_cannot_be_written_is_refused(capsys):
    assert main(["coverage", "--json", "/no/such/folder/coverage.json"]) == 2
    assert "/no/such/folder/coverage.json cannot be written" in capsys.readouterr().err
