"""Which steps of the reference a deviation changes, read off its classes."""

from __future__ import annotations

from collections.abc import Iterator

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.tolerance import arithmetic
from detr_conformance.reference import get_cdn_group

REFERENCE = "detr_conformance.reference"
PARTS = ("matcher", "focal", "varifocal")
"""What a loss is made of besides itself."""


def changed_steps(deviation: Deviation) -> list[str]:
    """Names of the reference's functions that the deviation replaces, such as `HungarianMatcher.cost_terms`.

    Steps outside the loss have names of their own: `get_cdn_group` for the generator, `Port.loss` for what a port does
    around a call. A constructor counts where nothing else is replaced.
    """
    if deviation.generator is not get_cdn_group:
        return [get_cdn_group.__name__]
    loss = deviation.port().loss_class()
    loss.arithmetic = arithmetic("float16")  # some matchers change with it
    steps = {step for part in (loss, *(getattr(loss, name) for name in PARTS)) for step in _replaced(type(part))}
    wrappers = deviation.port_class.__mro__[: deviation.port_class.__mro__.index(ReferencePort)]
    steps |= {
        f"Port.{name}" for each in wrappers for name in vars(each) if callable(getattr(ReferencePort, name, None))
    }
    chosen = {step for step in steps if "__" not in step}
    return sorted(chosen or steps)


def _replaced(kind: type) -> Iterator[str]:
    """Attributes of the reference's classes that the kind, or one between it and them, has anew."""
    own = [each for each in kind.__mro__ if not each.__module__.startswith(REFERENCE) and each is not object]
    theirs = [each for each in kind.__mro__ if each.__module__.startswith(REFERENCE)]
    for name in {name for each in own for name in vars(each)}:
        holder = next((each for each in theirs if name in vars(each)), None)
        if holder is not None and name not in ("__module__", "__doc__", "__annotations__"):
            yield f"{holder.__name__}.{name}"
