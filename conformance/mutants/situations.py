"""Mutants in situations of a training run, and in numbers that predictions in half precision cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.modes import SAME, only_in, without_gains
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.state import Asked, MoreEffects, leaving
from detr_conformance.properties.tolerance import PRECISIONS, rounded
from detr_conformance.reference import Inputs, LossConfig, LossSpec, replace_in
from detr_conformance.reference.layers import Layer
from detr_conformance.reference.matcher import Matching
from detr_conformance.reference.pairing import Match, Pairs
from detr_conformance.reference.tape import Array, stop_gradient

EVERY_DTYPE = "loss specification, Bad input: predictions of float16 and bfloat16 are good input"
HALVES = {precision.eps: dtype for dtype, precision in PRECISIONS.items() if dtype in ("float16", "bfloat16")}


def pairs_of_other_predictions(
    right: Callable[[Match, int, LossConfig], list[Pairs]], match: Match, layers: int, config: LossConfig
) -> list[Pairs]:
    """Each pair has the query after its own."""
    return [Pairs(_next_queries(each.classes), _next_queries(each.boxes)) for each in right(match, layers, config)]


def _next_queries(images: Sequence[Matching]) -> list[Matching]:
    return [((queries + 1) % (queries.max(initial=0) + 1), targets) for queries, targets in images]


def detached(spec: LossSpec) -> LossSpec:
    """No loss has a gradient."""
    return replace_in(spec, "gain", lambda loss, term, config: stop_gradient(spec.gain(loss, term, config)))


def boxes_detached(right: Callable[..., list[Layer]], layers: Sequence[Layer], is_denoising: bool) -> list[Layer]:
    """No loss has a gradient by boxes."""
    return [layer._replace(boxes=stop_gradient(layer.boxes)) for layer in right(layers, is_denoising)]


def background_alone(right: Callable[..., Array], terms: Array, matched: np.ndarray, config: LossConfig) -> Array:
    """The queries without a target."""
    return right(terms * ~matched[..., None], matched, config)


class ClassesInHalf(MoreEffects):
    """Classes go through the dtype of the predictions."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """As bfloat16 holds them from 257 on, and float16 from 2,049 on."""
        dtype = HALVES.get(inputs.arithmetic.eps)
        if dtype is None:
            return spec, config, inputs
        classes = np.minimum(rounded(inputs.targets.classes.astype(np.float64), dtype), config.nc - 1).astype(np.int64)
        return spec, config, replace(inputs, targets=inputs.targets._replace(classes=classes))


class QueriesInHalf(MoreEffects):
    """Indices of matched queries go through the dtype of the predictions."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Likewise."""
        dtype = HALVES.get(inputs.arithmetic.eps)
        if dtype is None:
            return spec, config, inputs
        last = inputs.boxes.shape[2] - 1

        def in_half(images: Sequence[Matching]) -> list[Matching]:
            held = [np.minimum(rounded(queries.astype(np.float64), dtype), last) for queries, _ in images]
            return [(queries.astype(np.int64), targets) for queries, (_, targets) in zip(held, images, strict=True)]

        def paired(right: Callable[..., list[Pairs]], match: Match, layers: int, config: LossConfig) -> list[Pairs]:
            return [Pairs(in_half(each.classes), in_half(each.boxes)) for each in right(match, layers, config)]

        return wrapped("pairing", paired)(spec), config, inputs


SITUATION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-matching-kept-in-the-batch",
        "API",
        "The matching is kept in the dictionary of targets, and read from there when the same targets come again. "
        "Right: predictions decide. Shows where the same dictionary is handed over with other predictions.",
        SAME,
        only_in(("same_targets",), wrapped("pairing", pairs_of_other_predictions)),
    ),
    Mutant(
        "plausible-background-kept-in-the-batch",
        "API",
        "Dense class targets are kept in the dictionary of targets, and those of matched queries are not written "
        "again. Right: they belong to one call. Shows where the same dictionary is handed over again.",
        SAME,
        only_in(("same_targets",), wrapped("class_total", background_alone)),
    ),
    Mutant(
        "plausible-constants-of-an-evaluation",
        "API",
        "Tensors that the first call makes are kept. Made in inference mode, they cannot be part of a graph, and are "
        "used without one. Right: the same gradients. Shows in training after an evaluation.",
        SAME,
        only_in(("validated",), detached),
    ),
    Mutant(
        "plausible-gains-lost-after-an-evaluation",
        "API",
        "An evaluation switches the gains off and nothing switches them on again. Right: the same losses. Shows in "
        "training after an evaluation.",
        SAME,
        only_in(("validated",), without_gains),
    ),
    Mutant(
        "plausible-no-graph-with-a-frozen-classifier",
        "API",
        "Where logits ask for no gradient the loss takes the call for an evaluation and detaches everything. Right: "
        "boxes have their gradients. Shows where the classifier is frozen.",
        "fine-tuning: a part of the model is frozen",
        only_in(("frozen_logits",), wrapped("layers.arranged", boxes_detached)),
    ),
    Mutant(
        "plausible-no-gains-with-frozen-boxes",
        "API",
        "A fused loss applies its gains in the backward pass of the boxes, which frozen ones do not have. Right: the "
        "same losses. Shows where the head of the boxes is frozen.",
        "fine-tuning: a part of the model is frozen",
        only_in(("frozen_boxes",), without_gains),
    ),
    Mutant(
        "plausible-copy-without-gains",
        "API",
        "A copy of the loss object has no gains: they are kept beside it, by its identity. Right: a copy is as good. "
        "Shows where a trainer copies the model with its loss.",
        SAME,
        only_in(("copied",), without_gains),
    ),
    Mutant(
        "plausible-classes-in-bfloat16",
        "NUM",
        "Classes are converted to the dtype of the logits, together with everything else, and bfloat16 holds no odd "
        "number above 256. Right: integers stay integers. Shows with 258 classes in bfloat16.",
        EVERY_DTYPE,
        leaving(ClassesInHalf),
    ),
    Mutant(
        "plausible-query-indices-in-bfloat16",
        "NUM",
        "Indices of matched queries are stacked with costs in the dtype of the predictions, and bfloat16 holds no odd "
        "number above 256. Right: integers stay integers. Shows with 258 queries in bfloat16.",
        EVERY_DTYPE,
        leaving(QueriesInHalf),
    ),
)
