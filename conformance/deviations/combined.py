"""Several deviations in one port: what a port with two bugs does."""

from __future__ import annotations

from collections.abc import Sequence

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import RTDETRDetectionLoss, get_cdn_group


def combined(deviations: Sequence[Deviation], base: type[RTDETRDetectionLoss] = RTDETRDetectionLoss) -> ReferencePort:
    """One port with all of these deviations, on a profile's loss.

    Their classes call each other through `super()`: a step that two replace is done by the first, on what the second
    makes of it.

    Raises:
        TypeError: they cannot be had together, as two generators cannot.
    """
    generators = [each.generator for each in deviations if each.generator is not get_cdn_group]
    if len(generators) > 1:
        raise TypeError(f"{len(generators)} generators, expected one at most")
    losses = _distinct([each.loss for each in deviations] + [base])
    ports = _distinct([each.port_class for each in deviations] + [ReferencePort])
    name = " and ".join(each.id for each in deviations)
    return joined(ports)(name, joined(losses), generators[0] if generators else get_cdn_group)


def joined(kinds: Sequence[type]) -> type:
    """A class with all of these above it, the first in front; itself if it is the only one."""
    return kinds[0] if len(kinds) == 1 else type("Combined", tuple(kinds), {})


def _distinct(kinds: Sequence[type]) -> list[type]:
    """Without classes that others are derived from already, in the same order."""
    return [
        kind
        for place, kind in enumerate(kinds)
        if kind not in kinds[:place] and not any(other is not kind and issubclass(other, kind) for other in kinds)
    ]
