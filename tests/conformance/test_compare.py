from __future__ import annotations

import msgspec
import pytest

from detr_conformance.cli import main
from detr_conformance.properties.verdict_words import VERDICTS
from detr_conformance.report import ProfileFacts
from detr_conformance.reports.comparison import ABSENT, RANKS, Change, compare
from detr_conformance.reports.facts import NOT_JUDGED
from detr_conformance.reports.verdict import counts_of


@pytest.fixture
def compared(write_report, capsys):
    """Compares two reports, and returns the exit status and what is printed."""

    def run(old, new, **changes):
        paths = write_report("old.json", old), write_report("new.json", new, **changes)
        status = main(["compare", *paths])
        return status, capsys.readouterr().out

    return run


def test_equal_reports_have_nothing_to_tell(compared):
    status, out = compared({}, {})
    assert (status, out) == (0, "conformant: 0 worse, 0 better, 0 other, 0 new, 0 gone\n")


def test_a_rule_that_got_worse_is_named_and_ends_with_1(compared):
    status, out = compared({"BOX-01": "fail"}, {"REG-01": "fail", "BOX-02": "error", "API-01": "unsupported"})
    assert status == 1
    assert [line.split()[:4] for line in out.splitlines()[1:4]] == [
        ["BOX-02", "pass", "->", "error"],
        ["REG-01", "pass", "->", "fail"],
        ["API-01", "pass", "->", "unsupported"],
    ]
    assert "got better:\n  BOX-01    fail -> pass               giou of one pair\n" in out
    assert out.endswith("\nnon-conformant: 3 worse, 1 better, 0 other, 0 new, 0 gone\n")


def test_what_is_still_broken_is_no_change(compared):
    status, out = compared({"BOX-01": "fail"}, {"BOX-01": "fail"})
    assert (status, out.splitlines()[0]) == (0, "still broken: BOX-01")


def test_what_is_not_judged_any_more_got_worse(compared):
    status, out = compared({}, {}, judged="BOX")
    assert status == 1
    assert "REG-01    pass -> not judged" in out
    assert "conformant -> partial: " in out


def test_rules_that_only_one_report_knows_are_new_or_gone(compared, make_report):
    rules = [entry for entry in make_report().rules if entry.id != "BOX-01"]
    counts = counts_of(rules)
    status, out = compared({}, {}, rules=rules, counts=counts)
    assert status == 0
    assert "gone: not in the new report:\n  BOX-01    pass -> absent" in out
    assert compare(make_report(rules=rules), make_report()).changes == [Change("BOX-01", ABSENT, "pass")]


def test_runs_of_other_conditions_are_said_to_be_so(make_report, compared):
    port = msgspec.structs.replace(make_report().port, capabilities=["focal"], versions={"python": "3.12"})
    profile = ProfileFacts(name="rtdetr", differences={"iou eps": "0"}, left_open={})
    _, out = compared({}, {}, level="smoke", seed=7, port=port, profile=profile)
    for line in (
        *("profile: ultralytics -> rtdetr", "level: standard -> smoke", "seed: 0 -> 7"),
        *("version of python: 3.11 -> 3.12", "convention iou eps: none -> 0", "-> none"),
    ):
        assert line in out


def test_what_a_port_may_be_asked_for_and_its_keys_are_conditions(make_report, compared):
    restricted = msgspec.structs.replace(make_report().port, options={"gamma": [2.0, 3.0]}, keys="DecoderKeys")
    _, out = compared({}, {}, port=restricted)
    assert "gamma that may be asked for: any -> 2.0 or 3.0" in out
    assert "table of keys: that of the profile -> DecoderKeys" in out


KINDS = [
    ("pass", "fail", "worse"),
    ("pass", "stale", "worse"),
    ("pass", NOT_JUDGED, "worse"),
    ("unsupported", "fail", "worse"),
    ("xfail", "stale", "worse"),
    ("fail", "pass", "better"),
    (NOT_JUDGED, "pass", "better"),
    (NOT_JUDGED, "fail", "other"),
    ("fail", "error", "other"),
    ("fail", "unsupported", "other"),
    (ABSENT, "fail", "new"),
    ("fail", ABSENT, "gone"),
]


@pytest.mark.parametrize(("before", "after", "kind"), KINDS)
def test_worse_is_what_can_make_the_run_s_verdict_worse(before, after, kind):
    assert Change("BOX-01", before, after).kind == kind


KINDS_OF_A_SHOULD = [
    ("pass", "fail", "worse"),
    ("unsupported", "fail", "other"),
    ("xfail", "error", "other"),
    ("fail", "stale", "worse"),
    ("fail", "pass", "better"),
]


@pytest.mark.parametrize(("before", "after", "kind"), KINDS_OF_A_SHOULD)
def test_a_should_that_does_not_hold_is_worse_than_one_that_does_and_no_worse_than_one_unjudged(before, after, kind):
    assert Change("NUM-05", before, after, "SHOULD").kind == kind


def test_a_remark_that_stays_is_not_called_broken(compared):
    assert compared({"NUM-05": "fail"}, {"NUM-05": "fail"})[1].startswith("conformant: ")


def test_every_verdict_has_a_rank():
    assert set(RANKS) == {*VERDICTS, NOT_JUDGED}
