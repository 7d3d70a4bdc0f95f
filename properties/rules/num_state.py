"""NUM: what a loss must not keep between calls, nor change in the world around it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.global_state import set_by
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import (
    batches_between,
    in_bfloat16,
    select_images,
    with_other_targets,
    without_targets,
)

TAME = Request(targets=(0, 4), special=(), logit_scale=3.0)
THREADS = 4
CALLS = 50


@rule("NUM-06", source="a loss is a function", request=Request(), needs={"one_object"})
def calls_leave_no_trace(port: PortUnderTest, case: LossCase) -> None:
    """A loss object answers the same when it is asked again, also after other batches in between, as large and larger,
    with the same images the other way round, and with other targets denoised; those are judged by their own targets."""
    expected, between = port.expected(case), batches_between(case, port.can("denoising_subset"))
    first, *returned, again = port.losses_in_turn([case, *between, case])
    for key in expected:
        again.assert_alike(first, key, expected[key])
    for each, losses in zip(between, returned, strict=True):
        losses.assert_values(port.expected(each))


@rule(
    "NUM-07",
    source="a loss is a function: Ultralytics' FocalLoss keeps its alpha rounded after a half-precision call",
    request=replace(TAME, targets=(1, 4), about_class=True),
    needs={"one_object", "bfloat16"},
)
def half_precision_leaves_no_trace(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that has seen a bfloat16 batch treats the next float32 batch in full precision."""
    half = in_bfloat16(case)
    for kind in port.each_classification(case):
        # An alpha that bfloat16 cannot hold; most round numbers it can.
        same = kind.change(alpha=0.1) if port.may_be_asked(alpha=0.1) else kind
        before = half.change(config=same.config)
        _, returned = port.losses_in_turn([before, same])
        returned.assert_values(port.expected(same))


@rule(
    "NUM-13",
    source="training calls one loss object for every batch of every epoch",
    request=replace(TAME, queries=(2, 6), targets=(0, 3)),
    needs={"one_object"},
)
def many_calls(port: PortUnderTest, case: LossCase) -> None:
    """A loss object is as right in its fiftieth call as in its first, whether batches grow or shrink in between, and
    whether they have targets."""
    other = with_other_targets(case)
    grown = select_images(other, [*range(case.images)] * 3)
    kinds = [case, select_images(other, [0]), grown, other, without_targets(case)]
    calls = [kinds[number % len(kinds)] for number in range(CALLS)]
    for number, (each, returned) in enumerate(zip(calls, port.losses_in_turn(calls), strict=True)):
        _assert_values(port, each, returned, f"in call {number + 1} of {CALLS}")


def _assert_values(port: PortUnderTest, case: LossCase, returned: ReturnedLosses, where: str) -> None:
    """The losses of a case; a failure says where."""
    try:
        returned.assert_values(port.expected(case))
    except AssertionError as failure:
        raise AssertionError(f"{where}, {failure}") from None


@rule("NUM-10", source="a loss is a function", request=Request(targets=(0, 3)))
def same_question_same_answer(port: PortUnderTest, case: LossCase) -> None:
    """Asked twice, the loss returns the same losses and gradients, up to the rounding of another order of summation."""
    expected, once, again = port.expected(case), port.loss(case), port.loss(case)
    for key in expected:
        again.assert_alike(once, key, expected[key])
        for name in again.inputs() if port.can("gradients") else ():
            again.assert_gradient_alike(once, key, name, expected[key], 1.0)


@rule("NUM-11", source="a loss is a function", request=Request(targets=(0, 3)), needs={"concurrent"})
def calls_at_the_same_time(port: PortUnderTest, case: LossCase) -> None:
    """Called from several threads at the same time on different batches, the loss gives each of them its own answer."""
    cases = [case, case.change(pred_scores=-case.pred_scores)] * (THREADS // 2)
    expected = [port.expected(each) for each in cases[:2]] * (THREADS // 2)
    with ThreadPoolExecutor(THREADS) as pool:
        for returned, wanted in zip(pool.map(port.loss, cases), expected, strict=True):
            returned.assert_values(wanted)


@rule(
    "NUM-12",
    source="a loss is a function: where it seeds a generator, each dropout and augmentation after it is the same again",
    request=Request(targets=(0, 3)),
)
def the_world_stays_as_it_is(port: PortUnderTest, case: LossCase) -> None:
    """A call puts no global random generator, of Python, NumPy or PyTorch, into a state of its own, though it may draw
    from them, and leaves PyTorch's default dtype and its gradient mode as they are."""
    touched = set_by(lambda: port.loss(case))
    assert not touched, f"the call sets {', '.join(touched)}, expected to find it after the call as it was before"
