"""CLASS: the classification losses of a single query, written out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged
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
)
OF_TARGET = np.array([0.25, 0.25, 0.5, 0.5])
INSIDE = np.array([0.25, 0.25, 0.25, 0.5])
HALF_OVER = np.array([0.5, 0.25, 0.5, 0.5])
APART = np.array([0.75, 0.75, 0.25, 0.25])


@rule(
    "CLASS-07",
    source="Lin et al., Focal Loss, arXiv 1708.02002, equation 5",
    request=replace(ONE_QUERY, classification=("focal",)),
)
def focal_loss_of_one_query(port: Judged, case: LossCase) -> None:
    """The focal loss of one matched query is alpha (1 - p)^gamma (-log p) for the class of its target plus, for each
    other class, (1 - alpha) p^gamma (-log(1 - p)), where p is the sigmoid of that class's logit."""
    alpha, gamma = case.config.alpha, case.config.gamma
    one, others = _logits(case)
    right = alpha * _p(-one) ** gamma * -math.log(_p(one))
    wrong = sum((1.0 - alpha) * _p(x) ** gamma * -math.log(_p(-x)) for x in others)
    _assert_class_loss(port, case, right + wrong)


@rule(
    "CLASS-08",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2",
    request=replace(ONE_QUERY, classification=("varifocal",)),
)
def varifocal_loss_of_one_query(port: Judged, case: LossCase) -> None:
    """The varifocal loss of one matched query is q (-q log p - (1 - q) log(1 - p)) for the class of its target, q its
    IoU, plus alpha p^gamma (-log(1 - p)) for each other class."""
    inside, q = _half_covered(port, case)
    one, others = _logits(inside)
    right = q * (-q * math.log(_p(one)) - (1.0 - q) * math.log(_p(-one)))
    wrong = sum(case.config.alpha * _p(x) ** case.config.gamma * -math.log(_p(-x)) for x in others)
    _assert_class_loss(port, inside, right + wrong)


@rule(
    "CLASS-09",
    source="Ultralytics DETRLoss, use_fl=False: cross-entropy against the IoU",
    request=replace(ONE_QUERY, classification=("bce",)),
)
def cross_entropy_of_one_query(port: Judged, case: LossCase) -> None:
    """The cross-entropy loss of one matched query is -q log p - (1 - q) log(1 - p) for the class of its target, q its
    IoU, plus -log(1 - p) for each other class."""
    inside, q = _half_covered(port, case)
    one, others = _logits(inside)
    right = -q * math.log(_p(one)) - (1.0 - q) * math.log(_p(-one))
    _assert_class_loss(port, inside, right - sum(math.log(_p(-x)) for x in others))


@rule(
    "CLASS-11",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, section 3.2: the IoU-aware classification score",
    request=replace(ONE_QUERY, classes=(1, 1), classification=("varifocal", "bce")),
)
def target_score_is_the_iou(port: Judged, case: LossCase) -> None:
    """The target score of a matched query is the IoU of its box with its target: 1/2 for one half of it, 1/3 for two
    equal boxes half over each other, 0, and not less, for boxes apart."""
    eps = port.profile.loss.iou_eps / 0.25
    for box, iou in ((INSIDE, 0.5 / (1.0 + eps)), (HALF_OVER, 0.5 / (1.5 + eps)), (APART, 0.0)):
        arranged = readable(_arranged(case, box))
        came, reach = target_score(port.loss(arranged))
        assert abs(came - iou) <= reach, (
            f"the target score of a query with IoU {iou:.6g} is {came:.6g}, and may be off by {reach:.3g}"
        )


def _p(x: float) -> float:
    """The sigmoid; 1 - p is that of -x."""
    return 1.0 / (1.0 + math.exp(-x))


def _logits(case: LossCase) -> tuple[float, list[float]]:
    """The main layer's logits of the target's class, and of all other classes."""
    logits = case.pred_scores[-1, 0, 0].tolist()
    return logits.pop(int(case.gt_cls[0])), logits


def _arranged(case: LossCase, box: np.ndarray) -> LossCase:
    """The only query predicts this box, for a target whose box is known."""
    return case.change(pred_bboxes=np.tile(box, (case.layers, 1, 1, 1)), gt_bboxes=OF_TARGET[None])


def _half_covered(port: Judged, case: LossCase) -> tuple[LossCase, float]:
    """The case with a prediction that covers half of its target, and their IoU."""
    return _arranged(case, INSIDE), 0.125 / (0.25 + port.profile.loss.iou_eps)


def _assert_class_loss(port: Judged, case: LossCase, terms: float) -> None:
    __tracebackhide__ = True
    expected = port.expected(case)["loss_class"]
    port.loss(case).assert_number("loss_class", case.config.loss_gain["class"] * terms, expected)
