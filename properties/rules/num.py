"""NUM: dtypes, extreme numbers and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference.base_spec import NON_FINITE

TAME = Request(targets=(0, 4), special=(), logit_scale=3.0)
EDGES = np.array([[0.0, 0.5, 0.25, 0.5], [1.0, 1.0, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0], [0.125, 0.875, 0.25, 0.25]])
"""Boxes at the border of the image; the first two reach over it."""


# Logits from 20 to 40 are large enough for shortcuts that are exact in float32 alone, and not yet saturated.

OF_BROKEN_TRAINING = (
    "a training run that goes well has finite predictions; this says how soon one that goes wrong is noticed"
)


@rule(
    "NUM-01",
    source="arithmetic in the precision of the predictions",
    request=replace(TAME, dtype="float64", logit_scale=12.0, about_class=True),
)
def double_precision(port: PortUnderTest, case: LossCase) -> None:
    """Float64 predictions give losses and gradients that are right to the rounding of float64, by every classification
    loss."""
    for same in port.each_classification(case):
        _assert_values_and_gradients(port, same)


@rule(
    "NUM-02",
    source="the losses are defined on the numbers, not on their format",
    request=replace(TAME, dtype="float16"),
)
def half_precision(port: PortUnderTest, case: LossCase) -> None:
    """Float16 predictions with float32 targets give losses and gradients that are right to the rounding of float16;
    who is matched is decided in float32 or better."""
    _assert_values_and_gradients(port, _with_targets_that_its_dtype_holds(case))


@rule(
    "NUM-03",
    source="the losses are defined on the numbers, not on their format",
    request=replace(TAME, dtype="bfloat16"),
)
def brain_float(port: PortUnderTest, case: LossCase) -> None:
    """Bfloat16 predictions with float32 targets give losses and gradients that are right to the rounding of bfloat16;
    who is matched is decided in float32 or better."""
    _assert_values_and_gradients(port, _with_targets_that_its_dtype_holds(case))


@rule(
    "NUM-04",
    source="BCE(x, q) = (1 - q) x - log sigmoid(x) is finite for every finite logit",
    request=Request(
        queries=(1, 1), targets=(1, 1), denoising="never", special=(), logit_scale=1e4, real=False, about_class=True
    ),
)
def saturated_logits(port: PortUnderTest, case: LossCase) -> None:
    """Logits of ten thousand and more give finite losses, the same as the reference's: no logarithm of a probability
    that has been rounded to 0 or 1."""
    for same in port.each_classification(case):
        port.loss(same).assert_values(port.expected(same))


@rule(
    "NUM-05",
    source="a training loop must see a broken prediction: nothing is replaced or hidden",
    request=replace(TAME, queries=(2, 6), targets=(1, 3), denoising="never"),
    convention=NON_FINITE,
    should=OF_BROKEN_TRAINING,
)
def non_finite_predictions_stay_visible(port: PortUnderTest, case: LossCase) -> None:
    """NaN in a matched box makes the box losses NaN, in an unmatched one leaves them; a NaN logit makes loss_class NaN;
    a logit of +inf of a background class makes it infinite; nobody crashes."""
    boxes, logits = case.pred_bboxes.copy(), case.pred_scores.copy()
    boxes[-1, 0, 0] = np.nan
    logits[-1, 0, -1, -1] = np.nan
    broken_logits = case.change(pred_scores=logits)
    for broken in (case.change(pred_bboxes=boxes), broken_logits, *_infinite_backgrounds(port, case)):
        port.loss(broken).assert_values(port.expected(broken))


def _infinite_backgrounds(port: PortUnderTest, case: LossCase) -> list[LossCase]:
    """The case with one infinite logit of a class that its image has no target of; none where it has them all, or the
    background has no weight."""
    absent = sorted(set(range(case.config.nc)) - set(case.gt_cls[case.of_image(0)].tolist()))
    if not absent:
        return []
    logits = case.pred_scores.copy()
    logits[-1, 0, -1, absent[0]] = np.inf
    return with_weighty_background(port, case.change(pred_scores=logits))


def with_weighty_background(port: PortUnderTest, case: LossCase) -> list[LossCase]:
    """The case, with another alpha if need be, where the background has a weight; none where it never has."""
    for alpha in (case.config.alpha, 0.25, 0.75):
        weighty = case.change(alpha=alpha)
        if port.may_be_asked(alpha=alpha) and _weighs_background(port, weighty):
            return [weighty]
    return []


def _weighs_background(port: PortUnderTest, case: LossCase) -> bool:
    """Whether the background has a weight: 0 times infinity is what each port makes of it."""
    return port.class_term(case).closed_form(np.ones(1), None, 0.0, port.config(case)) > 0


@rule(
    "NUM-14",
    source="a training loop must see a broken prediction wherever it is: a sum over layers and images hides none",
    request=replace(TAME, layers=(2, 3), images=(2, 3), queries=(3, 6), targets=(1, 2), denoising="where declared"),
    convention=NON_FINITE,
    should=OF_BROKEN_TRAINING,
)
def non_finite_predictions_stay_visible_everywhere(port: PortUnderTest, case: LossCase) -> None:
    """A logit that is NaN, in any layer and any image, of an ordinary or of a denoising query, makes the classification
    losses of its part NaN, and leaves those of other parts."""
    for broken in _broken_logits(case):
        port.loss(broken).assert_values(port.expected(broken))


def _broken_logits(case: LossCase) -> Iterator[LossCase]:
    """The case with one logit that is no number, in the last query of each layer and each image in turn."""
    for layer, image in product(range(case.layers), range(case.images)):
        logits = case.pred_scores.copy()
        logits[layer, image, -1, -1] = np.nan
        yield case.change(pred_scores=logits)
    denoising = case.denoising
    if denoising is not None:
        for layer, image in product(range(len(denoising.scores)), range(case.images)):
            scores = denoising.scores.copy()
            scores[layer, image, -1, -1] = np.nan
            yield case.change(denoising=replace(denoising, scores=scores))


@rule(
    "NUM-08",
    source="boxes are shares of the image: from 0 to 1, both included",
    request=Request(targets=(1, 3), denoising="never", special=("border",)),
)
def boxes_at_the_border(port: PortUnderTest, case: LossCase) -> None:
    """Boxes that touch the border of the image, have their centre on it, reach over it or fill the image are boxes like
    any others: nothing is clipped."""
    boxes, gt_bboxes = case.pred_bboxes.copy(), case.gt_bboxes.copy()
    boxes[:, :, ::2] = np.resize(EDGES, (len(boxes[0, 0, ::2]), 4))
    gt_bboxes[::2] = np.resize(EDGES[2:], (len(gt_bboxes[::2]), 4))
    _assert_values_and_gradients(port, case.change(pred_bboxes=boxes, gt_bboxes=gt_bboxes))


@rule(
    "NUM-09",
    source="DETR's own sizes: 91 classes, 100 queries and more",
    # Among so many queries saturated logits tie, as far as float32 can tell.
    request=Request(
        layers=(2, 2),
        images=(1, 2),
        queries=(100, 120),
        classes=(80, 91),
        targets=(0, 12),
        special=(),
        logit_scale=1.5,
        real=False,
    ),
)
def large_sizes(port: PortUnderTest, case: LossCase) -> None:
    """With as many queries and classes as real models have, all losses and gradients are still right to rounding: sums
    over thousands of terms, indices beyond a byte."""
    _assert_values_and_gradients(port, case)


def _with_targets_that_its_dtype_holds(case: LossCase) -> LossCase:
    """A port may cast targets to the dtype of the predictions; the sign of a difference must not depend on that."""
    return case.change(gt_bboxes=rounded(case.gt_bboxes, case.dtype))


def _assert_values_and_gradients(port: PortUnderTest, case: LossCase) -> None:
    __tracebackhide__ = True
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_values(expected)
    if port.can("gradients"):
        returned.assert_gradients(expected)
