"""CLASS and REG: the ends of the ranges that options have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference.base_spec import NO_ALPHA
from detr_conformance.reference.keys import TERMS

ANY = Request(targets=(0, 4), large=False)
ENDS: tuple[dict[str, float], ...] = ({"gamma": 0.0}, {"gamma": 5.0}, {"alpha": 0.01}, {"alpha": 0.99}, {"alpha": 1.0})
"""A gamma of 0 is no focusing at all, 5 the largest that its authors tried; from 0 to 1 alpha is a balance."""


@rule(
    "CLASS-19",
    source="Lin et al., Focal Loss, arXiv 1708.02002, section 5.1 and table 1: gamma from 0 to 5, alpha from 0.01 to 1",
    request=replace(ANY, about_class=True),
)
def ends_of_gamma_and_alpha(port: PortUnderTest, case: LossCase) -> None:
    """The classification losses are those of their formulas at the ends of their options too: at a gamma of 0 and of 5,
    at an alpha of 0.01, 0.99 and 1."""
    for end in ENDS:
        if port.may_be_asked(**end):
            for same in port.each_classification(case.change(**end)):
                _assert_alike(port, same, f"{same.config.classification} loss", end)


@rule(
    "CLASS-20",
    source="class API of RTDETRDetectionLoss: FocalLoss has no balance where alpha is 0",
    request=replace(ANY, classification=("focal",), about_class=True),
    convention=NO_ALPHA,
    varies={"alpha"},
)
def no_balance(port: PortUnderTest, case: LossCase) -> None:
    """An alpha of 0 switches the balance of the focal loss off: foreground and background both count in full, instead
    of foreground counting nothing."""
    end = {"alpha": 0.0}
    _assert_alike(port, case.change(**end), "focal loss", end)


@rule("REG-08", source="a gain is a factor: 0 switches a term off", request=ANY)
def ends_of_gains(port: PortUnderTest, case: LossCase) -> None:
    """A gain of 0 makes its own losses 0 and leaves the others; one of 100 makes them as much larger."""
    for term in TERMS:
        for gain in (0.0, 100.0):
            gains = {**case.config.loss_gain, term: gain}
            if port.may_be_asked(loss_gain=gains):
                _assert_alike(port, case.change(loss_gain=gains), "loss", {f"loss_gain[{term!r}]": gain})


def _assert_alike(port: PortUnderTest, case: LossCase, what: str, end: dict[str, Any]) -> None:
    """The losses of a case; a failure says which option is at an end."""
    try:
        port.loss(case).assert_values(port.expected(case))
    except AssertionError as failure:
        [(name, value)] = end.items()
        raise AssertionError(f"of the {what} with {name} = {value:g}, {failure}") from None
