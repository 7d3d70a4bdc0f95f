"""FGL and DDF as extra terms of a layer: which queries they are about, what weighs them, and what is a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from detr_conformance.reference.boxes import Guard, iou
from detr_conformance.reference.distributions import (
    MatchedAndOthers,
    bin_offsets,
    bin_shares,
    confidence,
    distillation_loss,
    divergence,
    localisation_loss,
    side_offsets,
)
from detr_conformance.reference.layers import Stack, Weights, last
from detr_conformance.reference.matcher import flat
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.rounding import Arithmetic, arithmetic_of
from detr_conformance.reference.tape import Array, placed, stop_gradient
from detr_conformance.reference.terms import Term, TermInputs

Boxes = Float[Array, "pairs 4"]
OfQueries = Float[Array, "images queries"]
Formula = Callable[..., Array]


def constant_iou(boxes: Boxes, wanted: Boxes) -> Float[np.ndarray, " pairs"]:
    """IoU of predicted boxes with their targets. A constant: no gradient flows into the box."""
    return iou(stop_gradient(boxes), wanted, Guard(0.0))  # type: ignore[return-value]  # a constant


def initial_references(given: TermInputs) -> Float[np.ndarray, "images queries 4"]:
    """The reference box that all layers start from."""
    return given.constants["references"]


@dataclass(frozen=True)
class Localisation:
    """The sum of FGL over the pairs of a layer.

    Attributes:
        references: the reference box of each query.
        bins: the offset of each bin, from the number of bins and the arithmetic.
        offsets: of the target's sides, from reference boxes and targets.
        shares: of each bin in an offset, from offsets and bins.
        weight: of each pair, from predicted boxes and targets.
        loss: of each pair, from its logits, shares and weight.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 8.
    """

    references: Callable[[TermInputs], Array] = initial_references
    bins: Callable[[int, Arithmetic], Array] = bin_offsets
    offsets: Formula = side_offsets
    shares: Formula = bin_shares
    weight: Formula = constant_iou
    loss: Formula = localisation_loss

    def __call__(self, given: TermInputs) -> Array:
        """The sum, without normaliser and gain."""
        places, chosen = flat(given.pairs)
        logits, wanted = given.layer.further["corners"][places], given.targets.boxes[chosen]
        bins = self.bins(logits.shape[-1], arithmetic_of(given.targets.boxes))
        shares = self.shares(self.offsets(self.references(given)[places], wanted), bins)
        return np.sum(self.loss(logits, shares, self.weight(given.layer.boxes[places], wanted)))


def last_layer(given: TermInputs) -> Float[np.ndarray, "images queries 4 bins"]:
    """The distributions of the last layer. A constant."""
    return stop_gradient(given.last.further["corners"])


def confidence_of_last_layer(given: TermInputs) -> OfQueries:
    """The largest probability that the last layer gives any class. A constant."""
    return confidence(stop_gradient(given.last.logits))


def of_ordinary_queries(given: TermInputs, is_matched: Bool[np.ndarray, "images queries"]) -> MatchedAndOthers:
    """Those of the ordinary queries, also where the loss is about denoising queries."""
    return given.matched_and_others


def of_own_queries(given: TermInputs, is_matched: Bool[np.ndarray, "images queries"]) -> MatchedAndOthers:
    """Those of the layer itself."""
    return int(is_matched.sum()), int((~is_matched).sum())


@dataclass(frozen=True)
class Distillation:
    """DDF of a layer.

    Attributes:
        teacher: logits of the distributions that are taught.
        divergence: of each side, from logits and teacher.
        matched_weight: of a matched query, from predicted boxes and targets.
        other_weight: of any other one.
        counts: K_m and K_u.
        loss: puts them together, from weighted divergences, matched queries, and counts.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, equation 9.
    """

    teacher: Callable[[TermInputs], Array] = last_layer
    divergence: Formula = divergence
    matched_weight: Formula = constant_iou
    other_weight: Callable[[TermInputs], Array] = confidence_of_last_layer
    counts: Callable[..., MatchedAndOthers] = of_ordinary_queries
    loss: Formula = distillation_loss

    def __call__(self, given: TermInputs) -> Array:
        """The loss without its gain."""
        layer = given.layer
        places, chosen = flat(given.pairs)
        matched = self.matched_weight(layer.boxes[places], given.targets.boxes[chosen])
        is_matched = np.zeros(layer.boxes.shape[:2], dtype=bool)
        is_matched[places] = True
        weights = placed(matched, places, self.other_weight(given))
        of_sides = weights[..., None] * self.divergence(layer.further["corners"], self.teacher(given))
        return self.loss(of_sides, is_matched, self.counts(given, is_matched))


def of_decoder(stack: Stack) -> Weights:
    """Every layer but the encoder's, which is the first of the ordinary ones and has no distributions."""
    encoder = 0 if stack.is_denoising else 1
    return [0.0] * encoder + [1.0] * (stack.count - encoder)


def of_taught(stack: Stack) -> Weights:
    """Those before the last, from which they learn."""
    return [*of_decoder(stack)[:-1], 0.0][: stack.count]


def already_a_mean(tally: Tally) -> int:
    """Nothing: it is a mean already."""
    return 1


FGL = Term(inputs=("corners",), needs="distributions", total=Localisation(), gain=0.15, layers=of_decoder)
"""Fine-grained localisation, over the pairs of the boxes."""
DDF = Term(
    inputs=("corners",),
    needs="distributions",
    total=Distillation(),
    gain=1.5,
    layers=of_decoder,
    optional=last,
    normaliser=already_a_mean,
    is_mean=True,
)
"""Decoupled distillation of the last layer's distributions into those of the others."""
