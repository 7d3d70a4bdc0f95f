"""Mutants in the mode that a loss is called in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.layers import no_layer

WITHOUT_GRADIENTS = ("no_grad", "inference")
SAME = "loss specification: a loss is a function of predictions, targets and options"


def only_in(modes: tuple[str, ...], change: Change) -> Change:
    """A change that shows in these modes alone."""

    def in_mode(right: Callable[..., LossSpec], spec: LossSpec, mode: str) -> LossSpec:
        made = right(spec, mode)
        return change(made) if mode in modes else made

    return wrapped("in_mode", in_mode)


def without_gains(spec: LossSpec) -> LossSpec:
    """Losses as they are before gains."""
    return replace_in(spec, "gain", lambda loss, _term, _config: loss)


def without_auxiliary(spec: LossSpec) -> LossSpec:
    """No auxiliary layer counts."""
    return replace_in(spec, "layers.auxiliary", no_layer)


def none_reconstructed(spec: LossSpec) -> LossSpec:
    """No denoising query has a target."""

    def pairs(right: Callable[..., Any], *args: Any) -> list[Any]:
        return [(slots[:0], own[:0]) for slots, own in right(*args)]

    return wrapped("denoising.pairs", pairs)(spec)


MODE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-evaluation-without-auxiliary",
        "API",
        "In evaluation mode auxiliary layers are left out. Right: the same losses, or a validation loss cannot be "
        "compared. Shows after eval().",
        SAME,
        only_in(("evaluation",), without_auxiliary),
    ),
    Mutant(
        "plausible-evaluation-without-gains",
        "API",
        "In evaluation mode losses are not multiplied by their gains. Right: the same losses. Shows after eval().",
        SAME,
        only_in(("evaluation",), without_gains),
    ),
    Mutant(
        "plausible-no-gradients-no-denoising",
        "API",
        "Where no gradients are recorded denoising queries have no targets. Right: the same losses. Shows there.",
        SAME,
        only_in(WITHOUT_GRADIENTS, none_reconstructed),
    ),
    Mutant(
        "plausible-inference-without-gains",
        "API",
        "A fused loss leaves the gains to its backward pass, which inference mode does not have. Right: the same "
        "losses. Shows in inference mode.",
        SAME,
        only_in(("inference",), without_gains),
    ),
)
