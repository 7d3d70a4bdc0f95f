"""Mutants in what becomes of NaN and infinity, part by part."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.interface import keyed
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig, LossSpec
from detr_conformance.reference.layers import Layer
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array

OfLayer = Callable[..., dict[str, Any]]
MOST = 1e6
"""Beyond all numbers that other rules draw."""
VISIBLE = "a training loop must see a broken prediction: nothing is replaced or hidden"


def zero_for_nan(pattern: str) -> Change:
    """Losses under keys like this are 0 where they are NaN."""
    return keyed(
        lambda named, _step: {
            key: np.zeros(()) if re.search(pattern, key) and np.isnan(plain(loss)) else loss
            for key, loss in named.items()
        }
    )


def with_logits(change: Callable[[Array], Array], in_denoising: bool) -> Change:
    """Other logits in the losses of ordinary, or of denoising queries."""

    def of_layer(right: OfLayer, spec: LossSpec, config: LossConfig, layer: Layer, *rest: Any) -> dict[str, Any]:
        changed = layer._replace(logits=change(layer.logits)) if rest[-1].is_denoising == in_denoising else layer
        return right(spec, config, changed, *rest)

    return wrapped("layer", of_layer)


def masked(in_denoising: bool) -> Change:
    """All boxes of a part go into its box losses, those without a target times 0."""

    def of_layer(right: OfLayer, spec: LossSpec, config: LossConfig, layer: Layer, *rest: Any) -> dict[str, Any]:
        losses = right(spec, config, layer, *rest)
        if rest[-1].is_denoising != in_denoising:
            return losses
        with np.errstate(invalid="ignore"):
            return losses | {"bbox": losses["bbox"] + np.sum(0.0 * layer.boxes)}

    return wrapped("layer", of_layer)


def later_images_dropped(
    right: OfLayer, spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Any]:
    """Pairs with a box that is not finite are in no box loss, in images after the first."""
    finite = np.isfinite(plain(layer.boxes)).all(axis=-1)
    finite[0] = True
    kept = [
        (queries[own[queries]], chosen[own[queries]])
        for (queries, chosen), own in zip(pairs.boxes, finite, strict=True)
    ]
    return right(spec, config, layer, pairs._replace(boxes=kept), targets, tally)


NON_FINITE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-nan-box-hidden-in-auxiliary",
        "NUM",
        "Box losses of auxiliary layers go through `nan_to_num`. Right: they stay NaN. Shows with a NaN in a matched "
        "box of an auxiliary layer.",
        VISIBLE,
        zero_for_nan("(bbox|giou)_aux$"),
    ),
    Mutant(
        "plausible-nan-box-hidden-in-denoising",
        "NUM",
        "Box losses of denoising queries go through `nan_to_num`. Right: they stay NaN. Shows with a NaN in the box of "
        "a positive denoising query.",
        VISIBLE,
        zero_for_nan("(bbox|giou)(_aux)?_dn$"),
    ),
    Mutant(
        "plausible-infinite-box-capped",
        "NUM",
        "The distance of two boxes is at most a million. Right: nothing is cut off. Shows with an infinite centre of a "
        "matched box.",
        VISIBLE,
        wrapped("box_terms.bbox", lambda right, *boxes: np.minimum(right(*boxes), MOST)),
    ),
    Mutant(
        "plausible-box-losses-not-finite-dropped",
        "NUM",
        "In images after the first, pairs with a box that is not finite are left out of the box losses. Right: they "
        "stay visible. Shows with a NaN in a matched box of the second image.",
        VISIBLE,
        wrapped("layer", later_images_dropped),
    ),
    Mutant(
        "plausible-boxes-masked-by-zero",
        "NUM",
        "The box losses of all queries are multiplied by a mask of the matched ones, and 0 times NaN is NaN. Right: "
        "only matched boxes are read. Shows with a NaN in a box without a target.",
        "loss specification, DETRLoss: box losses are about matched pairs",
        masked(in_denoising=False),
    ),
    Mutant(
        "plausible-denoising-boxes-masked-by-zero",
        "NUM",
        "The box losses of all denoising queries are multiplied by a mask of the positive ones, and 0 times NaN is "
        "NaN. Right: only positive ones are read. Shows with a NaN in the box of a negative one.",
        "loss specification, RTDETRDetectionLoss: box losses are about positive denoising queries",
        masked(in_denoising=True),
    ),
    Mutant(
        "plausible-minus-infinity-clamped",
        "NUM",
        "Logits are clamped from below at minus a million. Right: a target whose class has a logit of minus infinity "
        "costs infinitely much. Shows with such a logit of a matched query.",
        VISIBLE,
        with_logits(lambda logits: np.maximum(logits, -MOST), in_denoising=False),
    ),
    Mutant(
        "plausible-denoising-logits-clamped",
        "NUM",
        "Logits of denoising queries are clamped to a million. Right: infinity stays visible. Shows with an infinite "
        "logit of a denoising query.",
        VISIBLE,
        with_logits(lambda logits: np.minimum(np.maximum(logits, -MOST), MOST), in_denoising=True),
    ),
)
