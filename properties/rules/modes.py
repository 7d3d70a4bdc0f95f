"""API: the modes that a loss is called in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.sure_pairs import MOST_TARGETS, with_sure_pairs
from detr_conformance.properties.tolerance import PRECISIONS, UNITS
from detr_conformance.reference import LossSpec
from detr_conformance.reference.rounding import plain

ANY = Request(targets=(0, 4))
NEEDS = {"modes"}
MIXED = ("bfloat16", "float32", "float64")
"""In what dtypes losses may come in mixed precision."""
LOGIT = 1.0
"""Of the class of its target in a matched query there."""
SATURATED = 8.0
"""Its sigmoid is 1 in bfloat16, and not in float32."""


def one_group(spec: LossSpec) -> bool:
    """Whether there is one group of queries: who trains with several evaluates with one."""
    return not has_query_groups(spec)


@rule(
    "API-10",
    source="a loss is a function: what is recorded for a backward pass does not change it",
    request=ANY,
    needs=NEEDS,
)
def losses_without_gradients(port: PortUnderTest, case: LossCase) -> None:
    """Where no gradients are recorded losses and keys are the same, and predictions stay as they are: a validation loss
    is computed so. What stood in the same memory before, and what the object is called with before the losses are read,
    does not matter."""
    for mode in ("no_grad", "inference"):
        _assert_as_always(port, case, mode)


@rule(
    "API-11",
    source="a validation loss is compared with that of training",
    request=replace(ANY, denoising="never"),
    needs=NEEDS,
    among=one_group,
    should="no step of a training run is computed in evaluation mode",
)
def losses_in_evaluation(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that is told that this is an evaluation returns the same losses, under the same keys."""
    _assert_as_always(port, case, "evaluation")


@rule(
    "API-12",
    source="training recipes of the family use mixed precision: a loss is called inside torch.autocast",
    request=Request(
        layers=(1, 3),
        images=(1, 3),
        queries=(3, 6),
        classes=(3, 5),
        targets=(1, MOST_TARGETS),
        special=(),
        logit_scale=3.0,
        real=False,
        extra="never",
    ),
    needs=NEEDS,
)
def losses_in_mixed_precision(port: PortUnderTest, case: LossCase) -> None:
    """In mixed precision, where some operators run in bfloat16, losses of float32 predictions come in bfloat16 or
    better, finite, and right to the rounding of bfloat16; the same queries are matched where such rounding cannot
    decide otherwise. A call that raises there ends a training run."""
    same = _with_a_certain_background(with_sure_pairs(case, LOGIT))
    _require_certain_in_bfloat16(port, same)
    expected, returned = port.expected(same.change(dtype="bfloat16")), port.loss_in_mode(same, "autocast")
    for key, dtype in returned.result.dtypes.items():
        if dtype not in MIXED:
            raise AssertionError(f"loss {key!r} has dtype {dtype} in mixed precision, expected {' or '.join(MIXED)}")
    for key, loss in expected.items():
        if not np.isfinite(returned.value(key)):
            raise AssertionError(f"{key} is {float(returned.value(key))} in mixed precision, expected a finite number")
        port.compare(f"{key} in mixed precision", returned.value(key), loss.value, "bfloat16")


@rule(
    "API-19",
    source="torch.split of what a decoder returns: denoising queries first, the others after them",
    request=replace(ANY, images=(2, 4), denoising="always"),
    needs=NEEDS,
)
def denoising_queries_as_part_of_an_array(port: PortUnderTest, case: LossCase) -> None:
    """Predictions of denoising queries that are a part of a larger array, whose rows do not lie one after the other,
    have the losses that they have by themselves."""
    _assert_as_always(port, case, "split")


def _with_a_certain_background(case: LossCase) -> LossCase:
    """The last query takes the last class, which no target has, for so probable that bfloat16 has 1 for it."""
    logits = case.pred_scores.copy()
    logits[:, :, -1, -1] = SATURATED
    return case.change(pred_scores=logits)


def _require_certain_in_bfloat16(port: PortUnderTest, case: LossCase) -> None:
    """Leave a case to others in which costs rounded to bfloat16, as products of matrices are, may decide otherwise.

    Raises:
        OutOfScope: this is such a case.
    """
    for layer in oracle.matching_costs(case, port.spec, inside_loss=True):
        for cost in layer:
            rounding = UNITS * PRECISIONS["bfloat16"].eps * np.abs(plain(cost)).max(initial=0.0)
            if not is_unambiguous(plain(cost), oracle.allowed_cost_error(cost, case.dtype) + rounding):
                raise OutOfScope("rounding to bfloat16 decides who is matched with whom")


def _assert_as_always(port: PortUnderTest, case: LossCase, mode: str) -> None:
    __tracebackhide__ = True
    returned, usual = port.loss_in_mode(case, mode), set(port.loss(case).result.losses)
    odd = sorted(usual ^ set(returned.result.losses))
    assert not odd, f"in the mode {mode} a call differs in having, or not having, {', '.join(odd)}"
    mutated = returned.result.mutated
    assert not mutated, f"in the mode {mode} the call changed its input {', '.join(mutated)}"
    returned.assert_values(port.expected(case))
