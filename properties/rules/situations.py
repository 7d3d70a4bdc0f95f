"""API: situations of a training run in which a loss is called."""

from __future__ import annotations

from dataclasses import replace

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import FROZEN
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule

ANY = Request(targets=(0, 4))
NEEDS = {"situations"}


@rule(
    "API-21",
    source="a loss is a function of predictions and targets: who hands over the same targets again has moved the model",
    request=replace(ANY, queries=(2, 6)),
    needs=NEEDS,
)
def same_targets_again(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that has been called with the same targets, in the same lists and dictionaries, and with other
    predictions, answers by the predictions that it is called with now: it keeps nothing in what it was handed."""
    _assert_as_always(port, case, "same_targets")


@rule(
    "API-22",
    source="training goes on after an evaluation with the same loss; Lightning begins with one, in inference mode",
    request=ANY,
    needs=NEEDS,
)
def training_after_an_evaluation(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that has been called where nothing is recorded, as in inference mode, has the same losses and
    gradients in training afterwards."""
    _assert_as_always(port, case, "validated")


@rule(
    "API-23",
    source="fine-tuning: a part of the model is frozen, and its predictions ask for no gradient",
    request=ANY,
    needs=NEEDS | {"gradients"},
)
def frozen_predictions(port: PortUnderTest, case: LossCase) -> None:
    """Where boxes or logits ask for no gradient the losses are the same, and so are their gradients with respect to the
    others."""
    for situation in FROZEN:
        _assert_as_always(port, case, situation)


@rule(
    "API-24",
    source="a trainer copies the model with what it holds, to average its weights or to save it",
    request=ANY,
    needs=NEEDS,
    should="recipes keep the loss outside of what they copy",
)
def a_copy_of_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that has been called can be copied, and the copy has the same losses and gradients."""
    _assert_as_always(port, case, "copied")


def _assert_as_always(port: PortUnderTest, case: LossCase, situation: str) -> None:
    """Losses, and gradients by what asks for them; a failure says in which situation."""
    __tracebackhide__ = True
    expected, returned = port.expected(case), port.loss_in_situation(case, situation)
    mutated = returned.result.mutated
    assert not mutated, f"in the situation {situation} the call changed its input {', '.join(mutated)}"
    asking = [name for name in returned.inputs() if name not in FROZEN.get(situation, ())]
    try:
        returned.assert_values(expected)
        for key in expected:
            for name in asking if port.can("gradients") else ():
                returned.assert_gradient(key, name, expected[key])
    except AssertionError as failure:
        raise AssertionError(f"in the situation {situation}, {failure}") from None
