"""Mutant: one real bug, or one mistake that a porter may make, as a function from spec to spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import ULTRALYTICS, LossSpec, differing
from detr_conformance.reference.spec import NoSuchFieldError

Change = Callable[[LossSpec], LossSpec]


@dataclass(frozen=True)
class Mutant:
    """A wrong port of the museum.

    Attributes:
        id: short name, led by the project that had the bug, or by `plausible` for a mistake that a porter may make.
        family: the family of rules that must catch it.
        story: what went wrong, what is right, and how it shows.
        link: where the bug or its fix can be read, the project and file, or the section of the specification.
        change: from a spec to what a port of it with this bug computes.
        home: a spec under which the bug shows.
    """

    id: str
    family: str
    story: str
    link: str
    change: Change
    home: LossSpec = ULTRALYTICS

    def of(self, spec: LossSpec | None = None) -> LossSpec:
        """What the bug makes of a spec, by default of its home; a spec without the part in question stays as it is."""
        spec = self.home if spec is None else spec
        try:
            return self.change(spec)
        except NoSuchFieldError:
            return spec

    def port(self, spec: LossSpec | None = None) -> ReferencePort:
        """A port of the spec that has the bug."""
        return ReferencePort(self.of(spec), self.id, profile=self.home if spec is None else spec)

    def changes(self, spec: LossSpec | None = None) -> list[str]:
        """The decisions that it takes otherwise, as paths into the spec; none where the spec itself decides so."""
        return list(_changes(self, self.home if spec is None else spec))


@cache
def _changes(mutant: Mutant, spec: LossSpec) -> tuple[str, ...]:
    return tuple(differing(spec, mutant.of(spec)))


def together(mutants: Sequence[Mutant], spec: LossSpec = ULTRALYTICS) -> LossSpec:
    """What a port of the spec with all of these bugs computes."""
    return reduce(lambda made, mutant: mutant.of(made), mutants, spec)
