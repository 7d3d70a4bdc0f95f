"""API: what a constructor sets where nothing is passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference.recipe import Published, flattened


def any_case(level: str, classification: str) -> list[LossCase]:  # noqa: ARG001  # the form of a listing
    """One case: what a constructor sets does not depend on any."""
    none = np.zeros(0, dtype=np.int64), np.zeros((0, 4)), (0,)
    config = LossConfig(nc=1, **CLASSIFICATION[classification])
    return [LossCase(config, np.full((1, 1, 1, 4), 0.5), np.zeros((1, 1, 1, 1)), *none)]


@rule(
    "API-09",
    source="the published configurations of the profile: docs/conventions.md",
    request=Request(denoising="never", cheap=True, real=False),
    needs={"defaults"},
    among=lambda spec: bool(spec.recipe),
    listing=any_case,
    should="a trainer that passes every option, as the recipes do, meets none of the defaults",
)
def constructor_defaults(port: PortUnderTest, case: LossCase) -> None:
    """A loss that is built with nothing but the choice of its classification loss has the gamma, the alpha and the
    gains that the profile's members were published with, and so has its matcher."""
    wrong = []
    for kind in sorted(port.spec.recipe.keys() & port.port.capabilities):
        found = port.defaults(case.change(**CLASSIFICATION[kind]))
        said = _deviations(found, port.spec.recipe[kind])
        wrong += [f"with the {kind} loss {each}" for each in said]
    assert not wrong, "; ".join(wrong)


def _deviations(found: Mapping[str, Any], recipe: Mapping[str, Published]) -> Iterator[str]:
    """Each option that is another one, beside the published value and where it is published."""
    own = flattened(found)
    for name, (value, link) in recipe.items():
        for what, published in flattened({name: value}).items():
            if own.get(what, published) != published:
                yield f"{what} is {own[what]:g}, published with {published:g} ({link})"
