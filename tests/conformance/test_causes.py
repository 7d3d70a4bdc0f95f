"""Causes: few lines that explain many broken rules."""

from __future__ import annotations

import msgspec
import pytest

from detr_conformance import report
from detr_conformance.console import Display
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties.judging import RuleResult, judge
from detr_conformance.properties.place import Raised
from detr_conformance.report import Divergence
from detr_conformance.reports.causes import MOST_CAUSES, causes_of, in_lines
from detr_conformance.reports.composing import entry_of
from detr_conformance.reports.junit import junit
from detr_conformance.reports.markdown import markdown
from detr_conformance.reports.page import page
from detr_conformance.reports.reading import from_json

RAISED = Raised(
    "KeyError", "'pred_logits'", "criterion.py, line 212, in forward", "criterion.py, line 212, in forward\n    x"
)


def broken(rule, message, verdict="fail", case=None, raised=None, step="losses", blocked_by=None):
    entry = entry_of(RuleResult(RULE[rule], verdict, message, case=case, raised=raised))
    divergence = Divergence(step=step, what="w", where=[], expected="1", got="2", message=f"the first step is {step}")
    return msgspec.structs.replace(entry, divergence=divergence if verdict == "fail" else None, blocked_by=blocked_by)


def explained(*entries):
    return {cause.summary: cause.rules for cause in causes_of(entries)}


def test_what_breaks_at_one_line_is_one_cause_whatever_it_says():
    others = [
        broken("REG-01", "loss(case) raised KeyError: 'a'", "error", raised=RAISED),
        broken("BOX-01", "losses_in_turn(case) raised KeyError: 'b'", "error", raised=RAISED),
    ]
    elsewhere = Raised("KeyError", "'pred_logits'", "criterion.py, line 9, in f", "")
    last = broken("REG-02", "loss(case) raised KeyError: 'a'", "error", raised=elsewhere)
    assert explained(*others, last) == {
        "KeyError: 'pred_logits', at criterion.py, line 212, in forward": ["REG-01", "BOX-01"],
        "KeyError: 'pred_logits', at criterion.py, line 9, in f": ["REG-02"],
    }


def test_losses_that_are_off_are_a_cause_each_with_their_layers_and_gradients():
    assert explained(
        broken("REG-01", "loss_bbox: expected 1, the port returned 2"),
        broken("AUX-01", "loss_bbox_aux: expected 1, the port returned 2"),
        broken("GRAD-01", "gradient of loss_bbox with respect to pred_bboxes: expected 1"),
        broken("REG-02", "loss_giou: expected 1, the port returned 2"),
    ) == {
        "loss_bbox is off": ["REG-01", "AUX-01", "GRAD-01"],
        "loss_giou is off": ["REG-02"],
    }


@pytest.mark.parametrize("message", ["gradient of loss_bbox with respect to x: 1", "has the gradient 0 of loss_bbox"])
def test_gradients_alone_are_said_to_be_off(message):
    assert explained(broken("GRAD-01", message)) == {"the gradients of loss_bbox are off": ["GRAD-01"]}


def test_a_loss_of_some_layers_alone_is_called_by_its_whole_name():
    alone = [broken(rule, "loss_bbox_aux: expected 1, the port returned 2") for rule in ("AUX-01", "AUX-03")]
    assert explained(*alone) == {"loss_bbox_aux is off": ["AUX-01", "AUX-03"]}


def test_a_loss_that_came_and_is_off_is_not_explained_by_one_that_is_missing():
    assert explained(
        broken("API-08", "the port returned no loss_giou", step="keys"),
        broken("AUX-01", "loss_class_aux: expected 1, the port returned 2", step="keys", blocked_by="API-08"),
    ) == {"the port does not return loss_giou": ["API-08"], "loss_class_aux is off": ["AUX-01"]}


def test_losses_that_are_missing_are_one_cause():
    summary = "the port does not return loss_bbox, loss_giou_aux"
    missing = [
        broken("REG-01", "the port returned no loss_bbox; unknown here: l1", step="keys"),
        broken("AUX-01", "of two layers, the port returned no loss_bbox, loss_giou_aux"),
    ]
    assert explained(*(msgspec.structs.replace(each, divergence=None) for each in missing)) == {
        summary: ["REG-01", "AUX-01"]
    }


def test_a_step_where_the_numbers_part_is_a_cause_and_what_follows_belongs_to_it():
    assert explained(
        broken("MATCH-01", "query 1 is with target 0", step="matching"),
        broken("INV-01", "loss_class: expected 1", blocked_by="MATCH-01"),
    ) == {"the first step is matching": ["MATCH-01", "INV-01"]}


def test_what_was_not_tried_belongs_to_what_ended_the_run():
    assert explained(
        broken("REG-01", "the port ended the process (segmentation fault) in f, x.py line 3", "error"),
        broken("REG-02", "not tried: the port had crashed, hung or run out of memory in 8 rules by then", "error"),
    ) == {"the port ended the process (segmentation fault) in f, x.py line 3": ["REG-01", "REG-02"]}


def test_remarks_and_what_passes_have_no_cause():
    assert (
        causes_of([broken("NUM-05", "loss_class is 0, expected nan"), entry_of(RuleResult(RULE["REG-01"], "pass"))])
        == []
    )


def test_a_cause_is_shown_on_the_smallest_case_of_a_rule_that_says_so(small_case):
    smaller = small_case.change(pred_bboxes=small_case.pred_bboxes[:1], pred_scores=small_case.pred_scores[:1])
    [cause] = causes_of(
        [
            broken("REG-01", "loss_bbox: expected 1", case=small_case),
            broken("AUX-01", "loss_bbox_aux: expected 1", case=smaller),
        ]
    )
    assert cause.shown_by == "AUX-01"


@pytest.fixture
def many_failures(make_report):
    """Thirty rules that break for one reason, and one for another."""
    raised = report.Raised(**vars(RAISED))
    one = {"verdict": "error", "message": "loss(case) raised KeyError", "raised": raised}
    rules = dict.fromkeys([rule for rule in RULE if rule.startswith(("BOX", "CLASS", "REG"))], one)
    return make_report(rules | {"MATCH-01": {"verdict": "fail", "message": "loss_giou: expected 1"}})


def test_every_form_opens_with_them(many_failures, capsys):
    display = Display(every_rule=False)
    display.closing(many_failures)
    console = capsys.readouterr().out
    first = "KeyError: 'pred_logits', at criterion.py, line 212, in forward"
    assert console.index("non-conformant") < console.index(f"1. {first}") < console.index("2. loss_giou is off")
    assert len(console.splitlines()) <= 20
    text = markdown(many_failures)
    assert text.index("criterion.py, line 212") < text.index("| rule |")
    assert page(many_failures).index("criterion.py, line 212") < page(many_failures).index("What is broken")
    assert 'name="cause 1" value="KeyError' in junit(many_failures)


def test_the_traceback_is_in_the_report_and_the_page(many_failures):
    assert "criterion.py, line 212, in forward\\n    x" in many_failures.to_json()
    assert "criterion.py, line 212, in forward\n    x" in page(many_failures)


def test_of_many_causes_the_first_are_shown_and_the_others_are_counted(make_report, capsys):
    rules = [rule for rule in RULE if rule.startswith("CLASS")][:10]
    alone = make_report({rule: {"verdict": "fail", "message": f"it is {rule} alone"} for rule in rules})
    Display(every_rule=False).closing(alone)
    assert f"and {10 - MOST_CAUSES} more causes: " in capsys.readouterr().out
    lines = in_lines(msgspec.json.encode(entry).decode() for entry in alone.rules)
    assert lines[MOST_CAUSES:] == [f"and {10 - MOST_CAUSES} more causes"]


class WithATypo(ReferencePort):
    """Reads an attribute that there is not."""

    def loss(self, case):
        return super().loss(case) if case.layers == 1 else self.loses


def test_a_typo_in_a_port_is_one_cause_with_its_line():
    rules = [RULE[name] for name in ("REG-01", "REG-02", "AUX-01", "INV-01")]
    entries = [entry_of(judge(rule, WithATypo(), level="smoke")) for rule in rules]
    [cause] = [each for each in causes_of(entries) if "AttributeError" in each.summary]
    assert "'WithATypo' object has no attribute 'loses', at " in cause.summary
    assert cause.summary.endswith(", in loss")
    assert "AUX-01" in cause.rules
    raised = next(entry.raised for entry in entries if entry.id == "AUX-01")
    assert "return super().loss(case) if case.layers == 1 else self.loses" in raised.traceback


def test_a_report_of_an_earlier_release_gets_them(make_report):
    made = make_report({"REG-01": {"verdict": "fail", "message": "loss_bbox: expected 1"}})
    old = msgspec.json.decode(made.to_json())
    del old["causes"]
    assert from_json(msgspec.json.encode(old)) == made
