"""GRAD: gradients as training uses them: of weighted sums, scaled, several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference import track

ANY = Request(targets=(0, 4))
SMALL = replace(ANY, large=False)
CHAIN_RULE = "the chain rule: a backward pass starts from the gradient that comes from above, which need not be 1"
NEEDS = {"weighted_gradients"}


@rule("GRAD-10", source=CHAIN_RULE, request=ANY, needs=NEEDS)
def gradient_of_a_weighted_sum(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of a weighted sum of all losses is the weighted sum of their gradients, also for a weight of 0 and
    for one below it."""
    keys = sorted(port.expected(case))
    weights = np.resize([0.5, 3.0, -1.25, 0.0, 2.0], len(keys)).tolist()
    _assert_accumulated(port, case, [dict(zip(keys, weights, strict=True))])


@rule("GRAD-11", source=f"{CHAIN_RULE}; a scaler for half precision sets it", request=SMALL, needs=NEEDS)
def gradient_of_a_scaled_loss(port: PortUnderTest, case: LossCase) -> None:
    """A loss that is scaled by 1,024, by 1/1,024 or by 1/16, as a scaler or gradient accumulation does, has gradients
    that are scaled as much."""
    for scale in (1024.0, 2.0**-10, 2.0**-4):
        _assert_accumulated(port, case, [dict.fromkeys(port.expected(case), scale)])


@rule(
    "GRAD-12",
    source="automatic differentiation: a graph that is kept gives the same gradient again, and gradients add up",
    request=SMALL,
    needs=NEEDS,
)
def several_backward_passes(port: PortUnderTest, case: LossCase) -> None:
    """Several backward passes through one graph that is kept, of some losses, of others and of all, each with weights
    of its own, add up in the gradients of the predictions."""
    keys = sorted(port.expected(case))
    passes = [dict.fromkeys(keys[::2], 2.0), dict.fromkeys(keys[1::2], 0.5), dict.fromkeys(keys, 3.0)]
    _assert_accumulated(port, case, passes)


def _assert_accumulated(port: PortUnderTest, case: LossCase, passes: Sequence[Mapping[str, float]]) -> None:
    """Every gradient after every pass within its budget."""
    __tracebackhide__ = True
    grads = {key: loss.gradients for key, loss in port.expected(case).items()}
    expected = port.spec.accumulated(grads, passes)
    for place, came in enumerate(port.accumulated_gradients(case, passes)):
        for name, grad in came.items():
            what = f"gradient with respect to {name} after backward pass {place + 1} of {len(passes)}"
            port.compare(what, grad, expected[place].get(name, track(np.zeros(grad.shape))), case.dtype)
