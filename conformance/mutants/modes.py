"""Mutants in the mode that a loss is called in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.half_costs import half_pixels
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.mutants.state import Asked, MoreEffects, leaving
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import Inputs, LossConfig, LossSpec, replace_in
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.layers import no_layer
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array

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


def of_probabilities(x: Array, q: Array) -> Array:
    """-q log p - (1 - q) log(1 - p), with p in bfloat16."""
    p = sigmoid(x)
    p = p + (rounded(plain(p), "bfloat16") - plain(p))
    return -q * np.log(p) - (1.0 - q) * np.log(1.0 - p)


def logarithms_of_probabilities(spec: LossSpec) -> LossSpec:
    """Cross-entropies are of probabilities, which bfloat16 rounds to 0 and 1."""
    for name in spec.class_terms:
        spec = replace_in(spec, f"class_terms.{name}.entropy", of_probabilities)
    return spec


@dataclass
class RowAfterRow(MoreEffects):
    """Predictions of denoising queries are read as if the rows of an array lay one after the other."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The first row again for the second, and so on, as they lie in one with twice as many queries."""
        dn = inputs.denoising
        if dn is None:
            return spec, config, inputs
        misread = replace(dn, boxes=_misread(dn.boxes), logits=_misread(dn.logits))
        return spec, config, replace(inputs, denoising=misread)


def _misread(queries: Float[np.ndarray, "layers images denoising numbers"]) -> Float[np.ndarray, "..."]:
    rows = queries.reshape(-1, *queries.shape[2:])
    return rows[np.arange(len(rows)) // 2].reshape(queries.shape)


AUTOCAST = ("autocast",)
MIXED = "training recipes of the family use mixed precision: a loss is called inside torch.autocast"

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
    Mutant(
        "plausible-autocast-logarithm-of-probability",
        "API",
        "Under autocast probabilities are in bfloat16 before their logarithm is taken, and those near 1 are 1. Right: "
        "the log-sigmoid form. Shows with a logit of 8 there.",
        MIXED,
        only_in(AUTOCAST, logarithms_of_probabilities),
    ),
    Mutant(
        "plausible-autocast-costs-in-half",
        "API",
        "Under autocast overlaps of boxes in pixels are computed in float16, and their areas overflow. Right: costs in "
        "float32. Shows there.",
        MIXED,
        only_in(AUTOCAST, wrapped("matcher.overlap", half_pixels)),
    ),
    Mutant(
        "plausible-autocast-losses-in-half",
        "API",
        "Under autocast losses come in float16, whose sums overflow. Right: in bfloat16 or better. Shows there.",
        MIXED,
        only_in(
            AUTOCAST, wrapped("returned", lambda _right, _key, value, _dtype: (rounded(value, "float16"), "float16"))
        ),
    ),
    Mutant(
        "plausible-split-read-row-after-row",
        "API",
        "A kernel takes predictions of denoising queries for arrays whose rows lie one after the other. Right: they "
        "may be a part of a larger one. Shows where a decoder's output is split.",
        SAME,
        only_in(("split",), leaving(RowAfterRow)),
    ),
    Mutant(
        "plausible-split-without-denoising",
        "API",
        "What is no array of its own is passed over, and no denoising query has a target. Right: the same losses. "
        "Shows where a decoder's output is split.",
        SAME,
        only_in(("split",), none_reconstructed),
    ),
)
