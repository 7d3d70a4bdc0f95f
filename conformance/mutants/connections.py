"""Mutants in what a loss has a gradient by, and where: values are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, LossSpec, replace_in
from detr_conformance.reference.boxes import iou
from detr_conformance.reference.layers import Layer
from detr_conformance.reference.matcher import Targets, flat
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.tape import Array, stop_gradient, with_gradient_of

Arranged = Callable[[Sequence[Layer], bool], Sequence[Layer]]
Layered = Callable[..., dict[str, Array]]


def detached(layer: Layer) -> Layer:
    """A layer without gradients."""
    return layer.map(stop_gradient)


def encoder_boxes_detached(right: Arranged, layers: Sequence[Layer], is_denoising: bool) -> Sequence[Layer]:
    """The boxes of the first of several ordinary layers, the encoder's proposals, carry no gradient."""
    encoder, *decoder = right(layers, is_denoising)
    if decoder and not is_denoising:
        encoder = encoder._replace(boxes=stop_gradient(encoder.boxes))
    return [encoder, *decoder]


def auxiliary_detached(right: Arranged, layers: Sequence[Layer], is_denoising: bool) -> Sequence[Layer]:
    """The auxiliary losses have no gradient."""
    *auxiliary, main = right(layers, is_denoising)
    return [*map(detached, auxiliary), main]


def denoising_detached(
    right: Layered, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Array]:
    """The denoising losses have no gradient."""
    return right(spec, config, detached(layer) if tally.is_denoising else layer, pairs, targets, tally)


def cost_differentiated(
    right: Layered, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Array]:
    """The class cost of the matched pairs pulls at the logits through the L1 loss."""
    losses = right(spec, config, layer, pairs, targets, tally)
    if tally.is_denoising:
        return losses
    queries, chosen = flat(pairs.boxes)
    options, each = spec.matcher.configured(config), np.arange(len(chosen))
    costs = spec.matcher.class_costs["focal"](layer.logits[queries], targets.classes[chosen], options)[each, each]
    return losses | {"bbox": with_gradient_of(losses["bbox"], losses["bbox"] + np.sum(costs))}


def first_queries_moved(right: Callable[..., Array], boxes: Array, images: np.ndarray, queries: np.ndarray) -> Array:
    """The gradient of an image's k-th pair goes to query k."""
    rank = np.arange(len(images)) - np.searchsorted(images, images)
    return with_gradient_of(right(boxes, images, queries), right(boxes, images, rank))


CONNECTION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "hf-lwdetr-enc-coords-detached",
        "GRAD",
        "The encoder's proposal boxes were detached before the loss, which therefore had no gradient with respect to "
        "them. Right: detach only the copy that the decoder refines. Values are equal; only gradients show it.",
        "huggingface/transformers, pull request 44441",
        wrapped("layers.arranged", encoder_boxes_detached),
    ),
    Mutant(
        "plausible-aux-detached",
        "GRAD",
        "The auxiliary losses are computed without gradients, as if they were for the log alone. Right: they train "
        "every layer. Values are equal.",
        "loss specification, DETRLoss, forward",
        wrapped("layers.arranged", auxiliary_detached),
    ),
    Mutant(
        "plausible-denoising-detached",
        "GRAD",
        "The denoising losses are computed without gradients. Right: they train the denoising queries. Values are "
        "equal.",
        "loss specification, RTDETRDetectionLoss",
        wrapped("layer", denoising_detached),
    ),
    Mutant(
        "plausible-target-score-differentiated",
        "CLASS",
        "The IoU that serves as target score is not detached, and the classification loss moves boxes. Right: the "
        "score is a constant. Values are equal.",
        "loss specification, DETRLoss, step 3: detached",
        lambda spec: replace_in(spec, "score", iou),
    ),
    Mutant(
        "plausible-matching-differentiated",
        "GRAD",
        "The matched costs are added to the L1 loss and subtracted again as a constant, so that logits have a gradient "
        "by it. Right: nothing of the matcher carries a gradient. Values are equal.",
        "loss specification, HungarianMatcher: nothing of it carries a gradient",
        wrapped("layer", cost_differentiated),
    ),
    Mutant(
        "plausible-gradient-of-other-queries",
        "GRAD",
        "The backward pass writes the gradient of the k-th pair of an image into its query k. Right: into the query "
        "that was matched. Shows with more queries than targets.",
        "loss specification, DETRLoss, step 5: matched pairs",
        wrapped("matched_boxes", first_queries_moved),
    ),
)
