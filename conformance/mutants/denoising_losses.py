"""Mutants in the losses of denoising queries whose pairing is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.interface import keyed
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, LossSpec, wrap_in
from detr_conformance.reference.keys import StepLosses
from detr_conformance.reference.layers import Layer, Stack, Weights
from detr_conformance.reference.loss import matcher_for
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.normaliser import Normaliser, Tally, per_query
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.rounding import arithmetic_of, plain

Right = Callable[..., Any]


def not_split(right: Right, ordinary: Sequence[Layer], denoising: Sequence[Layer]) -> Sequence[Layer]:
    """The last layer still has the denoising queries before its own."""
    *others, last = right(ordinary, denoising)
    if denoising:
        last = _side_by_side(denoising[-1], last)
    return [*others, last]


def _side_by_side(*layers: Layer) -> Layer:
    """The queries of several layers as those of one."""
    boxes, logits = (np.concatenate(each, axis=1) for each in zip(*(layer[:2] for layer in layers), strict=True))
    names = layers[0].further
    return Layer(
        boxes, logits, {name: np.concatenate([each.further[name] for each in layers], axis=1) for name in names}
    )


def nothing_by_nothing(named: dict[str, Any], step: StepLosses) -> dict[str, Any]:
    """A batch without targets divides its denoising losses by their number."""
    return {key: loss * np.nan if "_dn" in key and not step.targets else loss for key, loss in named.items()}


def of_one_group(right: Normaliser) -> Normaliser:
    """The pairs of one group instead of all; what does not look at pairs stays as it is."""
    if right is per_query:
        return right
    return lambda tally: right(replace(tally, pairs=tuple(pairs // tally.groups for pairs in tally.pairs)))


def matched_by_cost(
    right: Right, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Any]:
    """Denoising queries are matched as all others are."""
    if tally.is_denoising:
        matcher = matcher_for(spec, arithmetic_of(layer.boxes))
        predicted = plain(layer.boxes), plain(layer.logits)
        pairs = Pairs.same(matcher.match(matcher.configured(config), *predicted, targets))
    return right(spec, config, layer, pairs, targets, tally)


def last_layer_only(right: Right, stack: Stack) -> Weights:
    """No layer of denoising queries is an auxiliary one."""
    return [0.0] * stack.count if stack.is_denoising else right(stack)


def positives_only(right: Right, spec: LossSpec, *others: Any) -> dict[str, Any]:
    """Denoising queries without a target have no part in the classification loss."""
    return right(of_matched(spec) if others[-1].is_denoising else spec, *others)


def of_matched(spec: LossSpec) -> LossSpec:
    """The classification loss of queries with a target."""
    return wrapped(
        "class_total",
        lambda right, terms, is_matched, config: right(np.where(is_matched[..., None], terms, 0.0), is_matched, config),
    )(spec)


DENOISING = "loss specification, RTDETRDetectionLoss"

DENOISING_LOSS_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "hf-main-loss-over-dn-queries",
        "DN",
        "The last layer went into the main loss with its denoising queries, which took the targets away from the "
        "ordinary ones. Right: split it first. Shows when denoising predictions change: the main loss must not.",
        "huggingface/transformers 4.46.3 to 5.15.0, pull request 48528",
        wrapped("denoising.ordinary", not_split),
    ),
    Mutant(
        "dfine-dn-num-boxes-zero",
        "DN",
        "A batch without targets has no group, and its denoising losses were 0 / 0. Right: 0. Shows in such a batch.",
        "Peterande/D-FINE, commit 9b949c6",
        keyed(nothing_by_nothing),
    ),
    Mutant(
        "plausible-dn-normaliser-without-groups",
        "DN",
        "Sums over all groups are divided by the number of denoised targets. Right: times the number of groups. Shows "
        "with two groups.",
        "loss specification, DETRLoss: with denoising N is the denoised targets times the number of groups",
        lambda spec: wrap_in(
            spec, "normaliser", lambda table: {term: of_one_group(right) for term, right in table.items()}
        ),
    ),
    Mutant(
        "plausible-dn-matched-by-cost",
        "DN",
        "Denoising queries are matched by cost like all others. Right: each belongs to the target it was made from. "
        "Shows with one group, since its negatives may be cheaper.",
        DENOISING,
        wrapped("layer", matched_by_cost),
    ),
    Mutant(
        "plausible-dn-last-layer-only",
        "DN",
        "The denoising losses are those of the last layer, and the auxiliary ones are 0. Right: every layer. Shows "
        "with two layers.",
        DENOISING,
        wrapped("layers.auxiliary", last_layer_only),
    ),
    Mutant(
        "plausible-dn-positives-only",
        "DN",
        "The classification loss leaves out negatives and padding. Right: they are background. Shows with one target.",
        DENOISING,
        wrapped("layer", positives_only),
    ),
)
