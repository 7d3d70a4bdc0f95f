"""Deviation: one real bug, as a change to one step of the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import RTDETRDetectionLoss, get_cdn_group


@dataclass(frozen=True)
class Deviation:
    """A bug of the museum.

    Attributes:
        id: short name, led by the project that had the bug.
        family: the family of rules that must catch it.
        story: what went wrong, what is right, and how it shows.
        link: where the bug or its fix can be read, or the project and file.
        loss: the reference loss with the wrong step.
        generator: the denoising generator with the wrong step.
    """

    id: str
    family: str
    story: str
    link: str
    loss: type[RTDETRDetectionLoss] = RTDETRDetectionLoss
    generator: Callable[..., tuple[Any, ...]] = get_cdn_group

    def port(self) -> ReferencePort:
        """The deviation as a port to be judged."""
        return ReferencePort(self.id, self.loss, self.generator)
