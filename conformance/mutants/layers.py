"""Mutants in the auxiliary losses: which layers are auxiliary, and how often each counts."""

from __future__ import annotations

from collections.abc import Callable

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference.layers import Stack

AUX = "loss specification, DETRLoss, forward"


def weighed(factor: Callable[[int, Stack], float]) -> Change:
    """An auxiliary layer does not count once, but as often as a factor of its place and the stack says."""
    return wrapped(
        "layers.auxiliary",
        lambda right, stack: [weight and weight * factor(layer, stack) for layer, weight in enumerate(right(stack))],
    )


def is_last(layer: int, stack: Stack) -> bool:
    """The layer is the last auxiliary one: the main one comes after it."""
    return layer == stack.count - 2


LAYER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "hf-aux-sliced-twice",
        "AUX",
        "A helper that drops the last layer was imported where the caller had dropped it already: one auxiliary layer "
        "was lost. Right: L - 1 auxiliary terms. Shows in the sum over layers.",
        "huggingface/transformers 4.46.3 to 4.48.3, loss/loss_rt_detr.py",
        weighed(lambda layer, stack: not is_last(layer, stack)),
    ),
    Mutant(
        "hf-enc-loss-dropped",
        "AUX",
        "The encoder's losses were computed and had no weight, and later were not computed at all. Right: the first "
        "layer is an auxiliary layer like the others. Shows in the sum over layers.",
        "huggingface/transformers, modeling_deformable_detr.py 4.35 to 4.44, loss/loss_deformable_detr.py since 4.46",
        weighed(lambda layer, stack: layer > 0 or stack.is_denoising),
    ),
    Mutant(
        "hf-enc-loss-only-with-dn",
        "AUX",
        "The encoder's outputs were filled in only beside denoising queries. Right: they do not depend on them. Shows "
        "without denoising queries.",
        "huggingface/transformers 4.46.3 to 4.48.3, modeling_rt_detr.py",
        weighed(lambda layer, stack: layer > 0 or stack.has_denoising),
    ),
    Mutant(
        "hf-dfine-aux-gated-on-dn",
        "AUX",
        "All auxiliary losses were inside a condition on the denoising queries. Right: only the denoising losses "
        "depend on them. Shows without denoising queries.",
        "huggingface/transformers up to 5.6, loss/loss_d_fine.py, issue 45593, pull request 45601",
        weighed(lambda _layer, stack: stack.has_denoising),
    ),
    Mutant(
        "plausible-aux-averaged",
        "AUX",
        "The auxiliary losses are averages over the layers. Right: sums. Shows with three layers.",
        AUX,
        weighed(lambda _layer, stack: 1.0 / (stack.count - 1)),
    ),
    Mutant(
        "plausible-aux-fading",
        "AUX",
        "Earlier layers have smaller weights. Right: every layer counts once. Shows with two layers.",
        AUX,
        weighed(lambda layer, stack: 2.0 ** (layer - (stack.count - 1))),
    ),
    Mutant(
        "plausible-aux-layer-twice",
        "AUX",
        "One auxiliary layer is counted twice. Right: once. Shows with two layers.",
        AUX,
        weighed(lambda layer, stack: 2.0 if is_last(layer, stack) else 1.0),
    ),
    Mutant(
        "plausible-aux-overwritten",
        "AUX",
        "The loop over the layers assigns the losses instead of adding them, and the last one stays. Right: the sum. "
        "Shows with three layers.",
        AUX,
        weighed(is_last),
    ),
)
