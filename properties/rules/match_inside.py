"""MATCH: the pairs that the loss itself uses, on cases where a matcher that is a little wrong chooses others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.duels import Duels, duels
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import counts_layers
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.matched import matched_pairs
from detr_conformance.properties.rules.num import OF_BROKEN_TRAINING
from detr_conformance.properties.transforms import with_nan_logits
from detr_conformance.reference.base_spec import NON_FINITE

Value = TypeVar("Value")

OPTIONS_ALONE = Request(
    layers=(1, 2),
    images=(1, 1),
    queries=(1, 1),
    classes=(1, 4),
    targets=(1, 1),
    denoising="never",
    special=(),
    real=False,
    extra="never",
    large=False,
)
"""Predictions and targets are searched for, see `duels`."""
BOX_LOSSES = ("loss_bbox", "loss_giou", "loss_bbox_aux", "loss_giou_aux")
ONE_MATCHER = "the matcher inside the loss is the one that the profile describes, whatever an exposed one does"


@rule("MATCH-22", source=ONE_MATCHER, request=OPTIONS_ALONE)
def pairs_inside_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """The loss pairs queries and targets by the cost that the profile gives it, to the precision of float32: where
    another eps, another measure of overlap or distance, another gain, alpha or gamma, a probability that is cut off or
    a cost in half precision would pair others, it keeps the cheapest pairs."""
    found = _duels(port, case)
    returned = port.loss(found.case)
    _assert_pairs_by_distance(port, found, returned)
    returned.assert_values(port.expected(found.case), BOX_LOSSES)  # saturated logits are for other rules


@rule("MATCH-23", source=ONE_MATCHER, request=replace(OPTIONS_ALONE, dtype="float16"))
def pairs_inside_the_loss_in_float16(port: PortUnderTest, case: LossCase) -> None:
    """The loss pairs float16 predictions by costs in float32 or better and with targets that are not rounded, also
    where costs in half precision, or of rounded targets, would pair others."""
    _assert_pairs(port, _duels(port, case))


@rule("MATCH-24", source=ONE_MATCHER, request=replace(OPTIONS_ALONE, dtype="bfloat16"))
def pairs_inside_the_loss_in_bfloat16(port: PortUnderTest, case: LossCase) -> None:
    """The loss pairs bfloat16 predictions by costs in float32 or better and with targets that are not rounded, also
    where costs in half precision, or of rounded targets, would pair others."""
    _assert_pairs(port, _duels(port, case))


@rule("MATCH-25", source=ONE_MATCHER, request=OPTIONS_ALONE, needs={"match", "gradients"})
def exposed_pairs_are_those_of_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """A box gets a gradient from the box losses if and only if the exposed matcher pairs its query, also where little
    decides between two queries."""
    found = _duels(port, case)
    paired = np.zeros(found.case.pred_bboxes.shape[:3], dtype=bool)
    for layer, image, queries, _ in matched_pairs(port, found.case):
        paired[layer, image, queries] = True
    _assert_queries(port.loss(found.case), paired, "the exposed matcher pairs", found.names)


@rule(
    "MATCH-26",
    source="Ultralytics HungarianMatcher: non-finite costs become 0, inside the loss as alone",
    request=Request(layers=(1, 2), queries=(2, 6), targets=(1, 3), denoising="never", special=(), large=False),
    convention=NON_FINITE,
    should=OF_BROKEN_TRAINING,  # as NUM-05 and NUM-14: a loss that raises on NaN breaks them all at once
)
def non_finite_costs_inside_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """A cost that is not finite counts as 0.0 inside the loss too: the box losses are those of the pairs that are
    cheapest then, NaN where they hold a box that is NaN."""
    boxes = case.pred_bboxes.copy()
    boxes[:, :, 0, 0] = np.nan
    for broken in (*with_nan_logits(case), case.change(pred_bboxes=boxes)):
        port.loss(broken).assert_values(port.expected(broken), BOX_LOSSES)


def _duels(port: PortUnderTest, case: LossCase) -> Duels:
    """Duels under the options of a case.

    Raises:
        OutOfScope: none was found, or rounding decides one after all.
    """
    found = duels(case, port.spec)
    if found is None:
        raise OutOfScope("no case was found on which a wrong matcher pairs otherwise")
    port.require_certain_matching(found.case)
    return found


def _assert_pairs(port: PortUnderTest, found: Duels) -> None:
    """The pairs of the right matcher, read from L1 losses and, where there are some, from gradients."""
    __tracebackhide__ = True
    returned = port.loss(found.case)
    _assert_pairs_by_distance(port, found, returned)
    if port.can("gradients"):
        losses = _box_losses(port.expected(found.case)).values()
        gradients = [loss.gradients["pred_bboxes"].values for loss in losses if "pred_bboxes" in loss.gradients]
        _assert_queries(returned, np.any(gradients, axis=(0, -1)), "the cheapest pairs hold", found.names)


def _assert_pairs_by_distance(port: PortUnderTest, found: Duels, returned: ReturnedLosses) -> None:
    """The L1 losses nearer to those of the right pairs than to those with any one image paired otherwise."""
    __tracebackhide__ = True
    of_pair, more = weight(port, found.case, "bbox"), found.wrong - found.right
    for key, layers in (("loss_bbox", 1.0), ("loss_bbox_aux", counts_layers(port.spec, found.case.layers - 1))):
        factor = of_pair * layers
        came, wanted, slack = float(returned.value(key)), factor * found.right.sum(), factor * np.abs(more).min() / 2.0
        by_name = wanted + factor * found.crossed @ more
        alike = [name for name, value in zip(found.names, by_name, strict=True) if abs(came - value) <= slack]
        hint = f"; a matcher with {' or '.join(alike)} would choose such" if alike else ""
        assert abs(came - wanted) <= slack, (
            f"{key} is {came:.6g}, expected {wanted:.6g} from the cheapest pairs; other pairs put it so far off{hint}"
        )


def _assert_queries(returned: ReturnedLosses, wanted: np.ndarray, whose: str, names: tuple[str, ...] = ()) -> None:
    """These queries, and no others, have a gradient of the box losses in their boxes."""
    __tracebackhide__ = True
    gradients = [returned.gradient(key, "pred_bboxes") for key in _box_losses(returned.values)]
    came = np.any(gradients, axis=(0, -1))
    wrong = np.argwhere((came != wanted).any(axis=-1))
    if len(wrong):
        layer, image = map(int, wrong[0])
        expected, got = (np.flatnonzero(each[layer, image]).tolist() for each in (wanted, came))
        hint = f"; a matcher with {names[image]} would choose otherwise" if names else ""
        raise AssertionError(
            f"layer {layer}, image {image}: the box losses have a gradient in the boxes of queries {got}, expected it "
            f"in those of {expected}, which {whose}{hint}"
        )


def _box_losses(losses: Mapping[str, Value]) -> dict[str, Value]:
    """Those of ordinary queries, under their canonical keys."""
    return {key: losses[key] for key in BOX_LOSSES if key in losses}
