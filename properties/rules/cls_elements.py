"""CLASS: the classification losses of a single query, written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import divisor
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import divides_by_counts
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.target_score import readable, target_score

ONE_QUERY = Request(
    layers=(1, 2),
    images=(1, 1),
    queries=(1, 1),
    classes=(1, 3),
    targets=(1, 1),
    denoising="never",
    special=(),
    real=False,
    about_class=True,
)
OF_TARGET = np.array([0.25, 0.25, 0.5, 0.5])
INSIDE = np.array([0.25, 0.25, 0.25, 0.5])
HALF_OVER = np.array([0.5, 0.25, 0.5, 0.5])
APART = np.array([0.75, 0.75, 0.25, 0.25])


@rule(
    "CLASS-07",
    source="Lin et al., Focal Loss, arXiv 1708.02002, equation 5",
    request=replace(ONE_QUERY, classification=("focal",)),
    among=divides_by_counts,
)
def focal_loss_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The focal loss of one matched query is alpha (1 - p)^gamma (-log p) for the class of its target plus, for each
    other class, (1 - alpha) p^gamma (-log(1 - p)), where p is the sigmoid of that class's logit."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-08",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2",
    request=replace(ONE_QUERY, classification=("varifocal",)),
    among=divides_by_counts,
)
def varifocal_loss_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The varifocal loss of one matched query is q (-q log p - (1 - q) log(1 - p)) for the class of its target, q its
    IoU, plus alpha p^gamma (-log(1 - p)) for each other class."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-09",
    source="Ultralytics DETRLoss, use_fl=False: cross-entropy against the IoU",
    request=replace(ONE_QUERY, classification=("bce",)),
    among=divides_by_counts,
)
def cross_entropy_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The cross-entropy loss of one matched query is -q log p - (1 - q) log(1 - p) for the class of its target, plus
    -log(1 - p) for each other class; q is its IoU by the base profile, and 1 where a profile has hard labels."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-16",
    source="Carion et al., DETR, arXiv 2005.12872, appendix A.4",
    request=replace(ONE_QUERY, classification=("softmax",)),
)
def softmax_loss_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The softmax cross-entropy of one matched query is log(sum exp(x)) - x for the logit x of the class of its target,
    the sum over all columns, that of no object among them."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-17",
    source="Huang et al., DEIM, arXiv 2412.04234, section 3.3",
    request=replace(ONE_QUERY, classification=("mal",)),
)
def matchability_aware_loss_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The matchability-aware loss of one matched query is -q^gamma log p - (1 - q^gamma) log(1 - p) for the class of
    its target, q its IoU, plus p^gamma (-log(1 - p)) for each other class."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-18",
    source="Chen et al., LW-DETR, arXiv 2406.03459, section 3.3",
    request=replace(ONE_QUERY, classification=("ia_bce",)),
)
def iou_aware_loss_of_one_query(port: PortUnderTest, case: LossCase) -> None:
    """The IA-BCE of one matched query is -t log p - (1 - t) log(1 - p) for the class of its target, with
    t = max(p^alpha q^(1 - alpha), 0.01) and q its IoU, plus p^gamma (-log(1 - p)) for each other class."""
    _assert_closed_form(port, case)


@rule(
    "CLASS-11",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, section 3.2: the IoU-aware classification score",
    request=replace(ONE_QUERY, classes=(1, 1), readable_score=True),
    among=divides_by_counts,
)
def target_score_is_the_iou(port: PortUnderTest, case: LossCase) -> None:
    """The target score of a matched query is the IoU of its box with its target: 1/2 for one half of it, 1/3 for two
    equal boxes half over each other, 0, and not less, for boxes apart."""
    guard = port.spec.guard
    for box, iou in ((INSIDE, 0.125 / guard(0.25)), (HALF_OVER, 0.125 / guard(0.375)), (APART, 0.0)):
        arranged = readable(port, _arranged(case, box))
        came, reach = target_score(port.loss(arranged))
        assert abs(came - iou) <= reach, (
            f"the target score of a query with IoU {iou:.6g} is {came:.6g}, and may be off by {reach:.3g}"
        )


def _arranged(case: LossCase, box: np.ndarray) -> LossCase:
    """The only query predicts this box, for a target whose box is known."""
    return case.change(pred_bboxes=np.tile(box, (case.layers, 1, 1, 1)), gt_bboxes=OF_TARGET[None])


def _assert_closed_form(port: PortUnderTest, case: LossCase) -> None:
    """The loss of a query whose box is half of its target's, by the closed form of the classification loss."""
    __tracebackhide__ = True
    inside, config = _arranged(case, INSIDE), port.config(case)
    iou = 0.125 / port.spec.guard(0.25)
    loss = port.class_term(case).closed_form(inside.pred_scores[-1, 0, 0], int(case.gt_cls[0]), iou, config)
    expected = port.expected(inside)["loss_class"]
    total = config.loss_gain["class"] * loss / divisor(inside, port.spec, "class")
    port.loss(inside).assert_number("loss_class", total, expected)
