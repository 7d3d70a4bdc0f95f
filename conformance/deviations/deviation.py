"""Deviation: one real bug, or one mistake that a porter may make, as a change to one step of the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import HungarianMatcher, RTDETRDetectionLoss, get_cdn_group

Part = TypeVar("Part")


@dataclass(frozen=True)
class Deviation:
    """A bug of the museum.

    Attributes:
        id: short name, led by the project that had the bug, or by `plausible` for a mistake that a porter may make.
        family: the family of rules that must catch it.
        story: what went wrong, what is right, and how it shows.
        link: where the bug or its fix can be read, the project and file, or the section of the specification.
        loss: the reference loss with the wrong step.
        generator: the denoising generator with the wrong step.
        port_class: what calls the two, for a bug in neither: arrays changed in place, losses of another format.
    """

    id: str
    family: str
    story: str
    link: str
    loss: type[RTDETRDetectionLoss] = RTDETRDetectionLoss
    generator: Callable[..., tuple[Any, ...]] = get_cdn_group
    port_class: type[ReferencePort] = ReferencePort

    def port(self) -> ReferencePort:
        """The deviation as a port to be judged."""
        return self.port_class(self.id, self.loss, self.generator)


def with_matcher(kind: type[HungarianMatcher]) -> type[RTDETRDetectionLoss]:
    """The loss with another matcher."""

    class Loss(RTDETRDetectionLoss):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.matcher = over(kind, type(self.matcher))(cost_gain=self.matcher.cost_gain)

    return Loss


def over(kind: type[Part], other: type[Part]) -> type[Part]:
    """A kind of part laid over another one, which a second deviation may have put there."""
    return kind if issubclass(kind, other) else type(kind.__name__, (kind, other), {})
