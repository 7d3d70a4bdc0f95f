"""What a port of a spec, such as a mutant, would answer in another port's place, with the bounds of its own errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from detr_conformance.ports.reference_port import GradientsOfReference, ReferencePort
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.reference import Loss, LossSpec, Tracked, track


class PortOfSpec(ReferencePort):
    """A port of a spec that declares what another port declares, and knows how far off its losses may be."""

    bounded = True

    def __init__(self, spec: LossSpec, other: PortUnderTest) -> None:
        super().__init__(spec, profile=other.spec)
        self.capabilities = other.port.capabilities


def parts_of(returned: ReturnedLosses, key: str) -> list[Loss]:
    """The losses of the reference that a canonical key adds up."""
    losses = cast("GradientsOfReference", returned.result.gradients).losses
    return [loss for own, loss in losses.items() if returned.canonical(own) == key]


def gradients_with_bounds(returned: ReturnedLosses, parts: Sequence[Loss]) -> dict[str, Tracked]:
    """Of the sum of these losses with respect to every input, zeros where there is none."""
    found = {}
    for name, array in returned.inputs().items():
        grads = [loss.gradients[name] for loss in parts if name in loss.gradients]
        found[name] = sum(grads[1:], start=grads[0]) if grads else track(np.zeros(array.shape))
    return found


def with_bound(returned: ReturnedLosses, key: str) -> Tracked:
    """A loss of a port of a spec, with the bounds of all that it adds up."""
    return Tracked(returned.values[key], sum(loss.magnitude for loss in parts_of(returned, key)))
