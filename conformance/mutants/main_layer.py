"""Mutants in which layer is the main one, and when there are auxiliary losses at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, LossSpec
from detr_conformance.reference.layers import Layer, Stack, Weights

AUX = "loss specification, DETRLoss, forward"


def main_included(spec: LossSpec) -> LossSpec:
    """The main layer counts among the auxiliary ones as well."""
    return wrapped("layers.auxiliary", lambda right, stack: np.add(right(stack), spec.layers.main(stack)))(spec)


def main_is_first(
    right: Callable[[Sequence[Layer], bool], Sequence[Layer]], layers: Sequence[Layer], is_denoising: bool
) -> Sequence[Layer]:
    """The first layer of ordinary queries is moved behind the last, where the main one is looked for."""
    first, *others = right(layers, is_denoising)
    return [first, *others] if is_denoising else [*others, first]


def single_layer_is_auxiliary(right: Callable[[Stack], Weights], stack: Stack) -> Weights:
    """A single layer is the main one and an auxiliary one."""
    return [1.0] if stack.count == 1 and not stack.is_denoising else right(stack)


def always_auxiliary(right: Callable[[LossConfig], LossConfig], config: LossConfig) -> LossConfig:
    """aux_loss is not looked at."""
    return replace(right(config), aux_loss=True)


MAIN_LAYER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-aux-includes-main",
        "AUX",
        "The main layer is one of the auxiliary layers too. Right: all layers but the last. Shows with any layers.",
        AUX,
        main_included,
    ),
    Mutant(
        "plausible-main-layer-first",
        "AUX",
        "The first layer is taken for the main one. Right: the last. Shows with two layers.",
        AUX,
        wrapped("layers.arranged", main_is_first),
    ),
    Mutant(
        "plausible-single-layer-is-auxiliary",
        "AUX",
        "A single layer gives the auxiliary losses too. Right: zeros. Shows with one layer.",
        f"{AUX}: zeros where L = 1",
        wrapped("layers.auxiliary", single_layer_is_auxiliary),
    ),
    Mutant(
        "plausible-aux-loss-ignored",
        "AUX",
        "The auxiliary losses are returned although aux_loss is off. Right: main losses only. Shows with "
        "aux_loss=False.",
        f"{AUX}: with aux_loss",
        wrapped("options", always_auxiliary),
    ),
)
