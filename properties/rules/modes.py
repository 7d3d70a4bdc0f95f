"""API: the modes that a loss is called in."""

from __future__ import annotations

from dataclasses import replace

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference import LossSpec

ANY = Request(targets=(0, 4))
NEEDS = {"modes"}


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
    """Where no gradients are recorded losses and keys are the same: a validation loss is computed so."""
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


def _assert_as_always(port: PortUnderTest, case: LossCase, mode: str) -> None:
    __tracebackhide__ = True
    returned, usual = port.loss_in_mode(case, mode), set(port.loss(case).result.losses)
    odd = sorted(usual ^ set(returned.result.losses))
    assert not odd, f"in the mode {mode} a call differs in having, or not having, {', '.join(odd)}"
    returned.assert_values(port.expected(case))
