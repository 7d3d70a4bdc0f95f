"""NUM: dtypes, extreme numbers, and what a loss must not keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.profiles import NON_FINITE
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.tolerance import rounded

TAME = Request(targets=(0, 4), special=(), logit_scale=3.0)


@rule("NUM-01", source="arithmetic in the precision of the predictions", request=replace(TAME, dtype="float64"))
def double_precision(port: Judged, case: LossCase) -> None:
    """Float64 predictions give losses and gradients that are right to the rounding of float64."""
    _assert_values_and_gradients(port, case)


@rule(
    "NUM-02",
    source="the losses are defined on the numbers, not on their format",
    request=replace(TAME, dtype="float16"),
)
def half_precision(port: Judged, case: LossCase) -> None:
    """Float16 predictions with float32 targets give losses and gradients that are right to the rounding of float16;
    who is matched is decided in float32 or better."""
    _assert_values_and_gradients(port, case)


@rule(
    "NUM-03",
    source="the losses are defined on the numbers, not on their format",
    request=replace(TAME, dtype="bfloat16"),
)
def brain_float(port: Judged, case: LossCase) -> None:
    """Bfloat16 predictions with float32 targets give losses and gradients that are right to the rounding of bfloat16;
    who is matched is decided in float32 or better."""
    _assert_values_and_gradients(port, case)


@rule(
    "NUM-04",
    source="BCE(x, q) = (1 - q) x - log sigmoid(x) is finite for every finite logit",
    request=Request(queries=(1, 1), targets=(1, 1), denoising="never", special=(), logit_scale=1e4, real=False),
)
def saturated_logits(port: Judged, case: LossCase) -> None:
    """Logits of ten thousand and more give finite losses, the same as the reference's: no logarithm of a probability
    that has been rounded to 0 or 1."""
    for same in port.each_classification(case):
        port.loss(same).assert_values(port.expected(same))


@rule(
    "NUM-05",
    source="a training loop must see a broken prediction: nothing is replaced or hidden",
    request=replace(TAME, queries=(2, 6), targets=(1, 3), denoising="never"),
    convention=NON_FINITE,
)
def non_finite_predictions_stay_visible(port: Judged, case: LossCase) -> None:
    """NaN in a matched box makes the box losses NaN, in an unmatched one leaves them; a NaN logit makes loss_class NaN;
    a logit of +inf of a background class makes it infinite; nobody crashes."""
    boxes, logits = case.pred_bboxes.copy(), case.pred_scores.copy()
    boxes[-1, 0, 0] = np.nan
    logits[-1, 0, -1, -1] = np.nan
    for broken in (case.change(pred_bboxes=boxes), case.change(pred_scores=logits), *_infinite_backgrounds(case)):
        port.loss(broken).assert_values(port.expected(broken))


def _infinite_backgrounds(case: LossCase) -> list[LossCase]:
    """The case with one infinite logit of a class that its image has no target of; none where it has them all."""
    absent = sorted(set(range(case.config.nc)) - set(case.gt_cls[case.of_image(0)].tolist()))
    if not absent:
        return []
    logits = case.pred_scores.copy()
    logits[-1, 0, -1, absent[0]] = np.inf
    # With alpha 1 the background has no weight, and 0 times infinity is what each port makes of it.
    return [case.change(pred_scores=logits, alpha=0.25)]


@rule("NUM-06", source="a loss is a function", request=Request(), needs={"one_object"})
def calls_leave_no_trace(port: Judged, case: LossCase) -> None:
    """A loss object answers the same when it is asked again, also after another batch in between."""
    other = case.change(gt_cls=(case.gt_cls + 1) % case.config.nc, pred_scores=-case.pred_scores, denoising=None)
    expected = port.expected(case)
    first, _, again = port.losses_in_turn([case, other, case])
    for key in expected:
        again.assert_alike(first, key, expected[key])


@rule(
    "NUM-07",
    source="a loss is a function: Ultralytics' FocalLoss keeps its alpha rounded after a half-precision call",
    request=replace(TAME, targets=(1, 4)),
    needs={"one_object", "bfloat16"},
)
def half_precision_leaves_no_trace(port: Judged, case: LossCase) -> None:
    """A loss object that has seen a bfloat16 batch treats the next float32 batch in full precision."""
    half = case.change(
        pred_bboxes=rounded(case.pred_bboxes, "bfloat16"),
        pred_scores=rounded(case.pred_scores, "bfloat16"),
        dtype="bfloat16",
        denoising=None,
    )
    for kind in port.each_classification(case):
        # An alpha that bfloat16 cannot hold; most round numbers it can.
        same = kind.change(alpha=0.1)
        before = half.change(config=same.config)
        _, returned = port.losses_in_turn([before, same])
        returned.assert_values(port.expected(same))


def _assert_values_and_gradients(port: Judged, case: LossCase) -> None:
    __tracebackhide__ = True
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_values(expected)
    if port.can("gradients"):
        returned.assert_gradients(expected)
