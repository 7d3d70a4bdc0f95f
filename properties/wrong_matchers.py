"""Matchers that a loss may have by mistake, each as a change of the right one.

A rule looks for cases on which such a matcher chooses another query than the right one: see `duels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import Guard
from detr_conformance.reference.boxes import corners_of_centre_form, giou, iou
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.keys import TERMS
from detr_conformance.reference.matcher import Cost, CostTerms, Matcher, focal_cost_of, softmax_class_cost
from detr_conformance.reference.options import LossConfig, MatcherConfig

Change = Callable[[Matcher], Matcher]
Array = np.ndarray
Function = Callable[..., Any]


def with_eps(eps: float) -> Change:
    """So much is added to the union and to the hull."""
    return lambda right: replace(right, guard=Guard(eps))


def _with_boxes(change: Callable[[Array, Array], tuple[Array, Array]]) -> Change:
    """Distance and overlap are those of other boxes, made of predictions and targets."""

    def changed(right: Matcher) -> Matcher:
        distance, overlap = right.distance, right.overlap
        return replace(
            right,
            distance=lambda pred, target: distance(*change(pred, target)),
            overlap=lambda pred, target, guard: overlap(*change(pred, target), guard),
        )

    return changed


def _with_class_cost(wrong: Callable[..., Cost]) -> Change:
    """The class cost is another one; `wrong` is given the right one before all else."""

    def changed(right: Matcher) -> Matcher:
        costs = {name: partial(wrong, cost) for name, cost in right.class_costs.items()}
        return replace(right, class_costs=costs)

    return changed


def _with_total(change: Callable[[Cost], Cost]) -> Change:
    """The total cost is turned into another one."""

    def changed(right: Matcher) -> Matcher:
        total = right.total
        return replace(right, total=lambda terms, gain: change(total(terms, gain)))

    return changed


def with_options(options: Callable[[MatcherConfig], dict[str, Any]]) -> Change:
    """The matcher has other options."""

    def changed(right: Matcher) -> Matcher:
        configured = right.configured

        def wrong(config: LossConfig) -> MatcherConfig:
            return replace(configured(config), **options(configured(config)))

        return replace(right, configured=wrong)

    return changed


def loss_gains(right: Matcher) -> Matcher:
    """The gains are those of the losses."""
    configured = right.configured
    return replace(right, configured=lambda config: replace(configured(config), cost_gain=dict(config.loss_gain)))


def with_gains(*order: str) -> Change:
    """Class, bbox and giou have the gains of these terms."""
    return with_options(
        lambda config: {
            "cost_gain": {
                **config.cost_gain,
                **{term: config.cost_gain[of] for term, of in zip(TERMS, order, strict=True)},
            }
        }
    )


def with_class_gain(factor: float) -> Change:
    """The gain of the class is so many times the right one."""
    return with_options(lambda config: {"cost_gain": {**config.cost_gain, "class": factor * config.cost_gain["class"]}})


def rounded_logits(dtype: str) -> Change:
    """The class cost is computed of logits that have been rounded, and is rounded itself."""
    return _with_class_cost(lambda right, logits, *others: rounded(right(rounded(logits, dtype), *others), dtype))


def half_logits(right: Function, logits: Array, *others: Any) -> Cost:
    """Every step of the class cost is in float16."""
    return np.asarray(right(logits.astype(np.float16), *others)).astype(np.float64)


def clipped_logits(limit: float) -> Change:
    """Logits are cut off."""
    return _with_class_cost(lambda right, logits, *others: right(np.clip(logits, -limit, limit), *others))


def with_log_eps(eps: float) -> Change:
    """So much is added inside the logarithms of the focal cost."""

    def cost(_right: Function, logits: Array, classes: Array, config: MatcherConfig) -> Cost:
        return focal_cost_of(logits[:, classes], config.alpha, config.gamma, eps)

    return _with_class_cost(cost)


def probability(_right: Function, logits: Array, classes: Array, _config: MatcherConfig) -> Cost:
    """Minus the sigmoid."""
    return -sigmoid(logits[:, classes])


def softmax(_right: Function, *arguments: Any) -> Cost:
    """Minus the softmax."""
    return softmax_class_cost(*arguments)


def in_the_image(boxes: Array) -> Array:
    """Boxes are cut off at the edges of the image."""
    corners = corners_of_centre_form(boxes)
    low, high = np.clip(corners.low, 0.0, 1.0), np.clip(corners.high, 0.0, 1.0)
    return np.concatenate([(low + high) / 2.0, high - low], axis=-1)


def between_corners(pred: Array, target: Array) -> Array:
    """L1 of left, top, right and bottom."""
    a, b = corners_of_centre_form(pred), corners_of_centre_form(target)
    return np.abs(a.low - b.low).sum(axis=-1) + np.abs(a.high - b.high).sum(axis=-1)


def euclidean(pred: Array, target: Array) -> Array:
    """The root of the sum of squares."""
    return np.sqrt(((pred - target) ** 2).sum(axis=-1))


def half_boxes(right: Matcher) -> Matcher:
    """Every step of the box costs is in float16."""

    def of_half(function: Function) -> Function:
        def costs(pred: Array, target: Array, *guard: Guard) -> Array:
            return np.asarray(function(pred.astype(np.float16), target.astype(np.float16), *guard)).astype(np.float64)

        return costs

    return replace(right, distance=of_half(right.distance), overlap=of_half(right.overlap))


def without_classes(right: Matcher) -> Matcher:
    """Only boxes cost something."""
    total = right.total
    return replace(right, total=lambda terms, gain: total(CostTerms(0.0 * terms.cls, terms.bbox, terms.giou), gain))


ROUNDED: Mapping[str, Change] = {
    "targets rounded to float16": _with_boxes(lambda pred, target: (pred, rounded(target, "float16"))),
    "targets rounded to bfloat16": _with_boxes(lambda pred, target: (pred, rounded(target, "bfloat16"))),
    "boxes rounded to float16": _with_boxes(
        lambda pred, target: (rounded(pred, "float16"), rounded(target, "float16"))
    ),
    "box costs in float16": half_boxes,
    "class costs in float16": _with_class_cost(half_logits),
    "class costs rounded to bfloat16": rounded_logits("bfloat16"),
    "costs rounded to float16": _with_total(lambda cost: rounded(cost, "float16")),
    "costs rounded to bfloat16": _with_total(lambda cost: rounded(cost, "bfloat16")),
}
"""Precision that is lost, by a name that a message gives."""

WRONG: Mapping[str, Change] = {
    **ROUNDED,
    "nothing added to areas": with_eps(0.0),
    "1e-10 added to areas": with_eps(1e-10),
    "1e-8 added to areas": with_eps(1e-8),
    "1e-7 added to areas": with_eps(1e-7),
    "1e-6 added to areas": with_eps(1e-6),
    "1e-3 added to areas": with_eps(1e-3),
    "areas of 1e-7 at least": lambda right: replace(right, guard=Guard(1e-7, as_floor=True)),
    "IoU in place of GIoU": lambda right: replace(right, overlap=iou),
    "GIoU cut off at 0": lambda right: replace(right, overlap=lambda *boxes: np.maximum(giou(*boxes), 0.0)),
    "distances of corners": lambda right: replace(right, distance=between_corners),
    "Euclidean distances": lambda right: replace(right, distance=euclidean),
    "predicted boxes cut off at the edges of the image": _with_boxes(lambda pred, target: (in_the_image(pred), target)),
    "costs cut off at 10": _with_total(lambda cost: np.clip(cost, -10.0, 10.0)),
    "logits cut off at 12": clipped_logits(12.0),
    "1e-6 inside the logarithms": with_log_eps(1e-6),
    "1e-8 inside the logarithms": with_log_eps(1e-8),
    "1e-12 inside the logarithms": with_log_eps(1e-12),
    "probabilities in place of focal costs": _with_class_cost(probability),
    "softmax of all columns": _with_class_cost(softmax),
    "no class cost": without_classes,
    "the gains of the losses": loss_gains,
    "the gains of class and bbox exchanged": with_gains("bbox", "class", "giou"),
    "the gains of bbox and giou exchanged": with_gains("class", "giou", "bbox"),
    "half the gain of the class": with_class_gain(0.5),
    "twice the gain of the class": with_class_gain(2.0),
    "alpha 0.5": with_options(lambda _: {"alpha": 0.5}),
    "gamma 1": with_options(lambda _: {"gamma": 1.0}),
}
"""All that may be wrong, likewise. Nothing comes of a change where a spec itself decides so, nor where its matcher does
not read the option."""
