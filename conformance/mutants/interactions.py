"""Mutants that are right for each option alone, and wrong where two of them, or an option and a size, meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.layer_matching import Pairing, main_shares
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig
from detr_conformance.reference.layers import Layer, Stack, Weights
from detr_conformance.reference.loss import FLOAT16_EPS
from detr_conformance.reference.normaliser import Normaliser, Tally
from detr_conformance.reference.pairing import Match, Pairs
from detr_conformance.reference.rounding import arithmetic_of

OPTIONS = "loss specification, DETRLoss, options: each means the same whatever the others are"
ANY_SIZE = "loss specification, arguments: any number of layers, images, queries, classes, targets and groups"


def main_shares_when_alone(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """Without auxiliary losses the shared matching is that of the main layer."""
    return right(match, layers, config) if config.aux_loss else main_shares(right, match, layers, config)


def default_gamma_without_auxiliary(right: Callable[[LossConfig], LossConfig], config: LossConfig) -> LossConfig:
    """The varifocal loss of a main layer alone is built without gamma."""
    is_alone = config.classification == "varifocal" and not config.aux_loss
    return right(replace(config, gamma=1.5) if is_alone else config)


def longest_image(right: Normaliser, tally: Tally) -> float:
    """As many queries as the largest image has targets, at least."""
    return max(right(tally), *tally.targets)


def no_single_layer_beside_denoising(right: Callable[[Stack], Weights], stack: Stack) -> Weights:
    """The last layer is taken for that of denoising queries where there are no others."""
    is_taken = stack.count == 1 and stack.has_denoising and not stack.is_denoising
    return [0.0] if is_taken else right(stack)


def squared_in_half(right: Callable[..., Any], spec: Any, config: LossConfig, layer: Layer, *rest: Any) -> Any:
    """Float16 has a kernel of its own, for a gamma of 2."""
    is_half = arithmetic_of(layer.boxes).eps == FLOAT16_EPS
    return right(spec, replace(config, gamma=2.0) if is_half else config, layer, *rest)


INTERACTION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-shared-matching-without-auxiliary",
        "AUX",
        "Where auxiliary losses are off, the main layer has the matching that auxiliary layers share. Right: its own. "
        "Shows with use_uni_match and without aux_loss.",
        "loss specification, DETRLoss, forward: use_uni_match",
        wrapped("pairing", main_shares_when_alone),
    ),
    Mutant(
        "plausible-varifocal-gamma-without-auxiliary",
        "AUX",
        "Where auxiliary losses are off, the varifocal loss is built without gamma, and has its default. Right: gamma "
        "as it is asked for. Shows with the varifocal loss, without aux_loss, and with a gamma that is not 1.5.",
        OPTIONS,
        wrapped("options", default_gamma_without_auxiliary),
    ),
    Mutant(
        "plausible-cross-entropy-of-crowded-images",
        "CLASS",
        "Cross-entropy is divided by the targets of the largest image where it has more than there are queries. Right: "
        "by the queries. Shows with the bce loss and more targets than queries.",
        "loss specification, DETRLoss, step 4: bce",
        wrapped("normaliser.bce", longest_image),
    ),
    Mutant(
        "plausible-single-layer-beside-denoising",
        "DN",
        "A single layer is taken for that of the denoising queries, and the main losses are 0. Right: both have a last "
        "layer. Shows with one layer and denoising queries.",
        ANY_SIZE,
        wrapped("layers.main", no_single_layer_beside_denoising),
    ),
    Mutant(
        "plausible-gamma-of-2-in-half",
        "NUM",
        "Float16 has a kernel of its own that squares, whatever gamma is. Right: gamma as it is asked for. Shows with "
        "float16 and a gamma that is not 2.",
        OPTIONS,
        wrapped("layer", squared_in_half),
    ),
)
