"""Failures of one kind are made small once."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.failure_kinds import SmallCases, kind_of
from detr_conformance.properties.judging import judge
from detr_conformance.properties.place import Raised
from detr_conformance.properties.rules import RULES

from .sample_cases import small_case

RULE = {rule.id: rule for rule in RULES}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("loss_giou: expected 1, the port returned 2", ("loss", "loss_giou")),
        (
            "of the bce loss, gradient of loss_class_aux_dn with respect to pred_scores: expected 1",
            ("loss", "loss_class"),
        ),
        ("of the loss with loss_gain['class'] = 100, loss_class: expected 1", ("loss", "loss_class")),
        ("the port returned no loss_class_aux; unknown here: x", ("missing",)),
        ("matched query 3 with target 1", None),
    ],
)
def test_a_wrong_answer_is_of_the_kind_of_its_loss(message, kind):
    assert kind_of(message, None, True) == kind


def test_an_exception_is_of_the_kind_of_its_line_and_no_answer_of_that_of_its_message():
    raised = Raised("KeyError", "'a'", "x.py, line 3, in f", "")
    assert kind_of("m", raised, False) == kind_of("n", raised, False) == ("exception", "KeyError", "x.py, line 3, in f")
    assert kind_of("loss of 3 numbers", None, False) == kind_of("loss of 45.6 numbers", None, False)


class Counting(ReferencePort):
    """Twice the loss, and a count of the calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def loss(self, case):
        self.calls += 1
        result = super().loss(case)
        return type(result)({key: 2.0 * loss for key, loss in result.losses.items()}, result.gradients, result.dtypes)


def calls_of(rule, small):
    port = Counting()
    outcome = judge(RULE[rule], port, level="smoke", small=small)
    assert outcome.verdict == "fail"
    return port.calls, outcome


def test_what_has_failed_so_before_is_shown_on_the_same_small_case():
    small = SmallCases()
    first, of_one = calls_of("REG-01", small)
    again, of_other = calls_of("REG-01", small)
    assert first > 10, "to make a case small takes many calls"
    assert again < first / 2
    assert of_other.case == of_one.case


def test_a_small_case_that_does_not_break_the_rule_is_not_taken():
    small, kind = SmallCases(), ("loss", "loss_bbox")
    targets = {"gt_cls": np.zeros(0, dtype=np.int64), "gt_bboxes": np.zeros((0, 4)), "gt_groups": (0, 0, 0)}
    small.keep(kind, small_case(**targets, denoising=None))
    _, outcome = calls_of("REG-01", small)
    assert outcome.case != small.of(kind)
    assert outcome.message.startswith("loss_bbox: expected ")
