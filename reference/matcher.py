"""The matcher: which query answers for which target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Integer

from detr_conformance.reference.assignment import linear_sum_assignment
from detr_conformance.reference.boxes import Guard, giou, l1_distance
from detr_conformance.reference.classification import sigmoid, softplus
from detr_conformance.reference.masks import MaskCosts
from detr_conformance.reference.options import LossConfig, MatcherConfig, as_meant
from detr_conformance.reference.rounding import plain

Matching = tuple[Int64[np.ndarray, " _pairs"], Int64[np.ndarray, " _pairs"]]
"""Queries, ascending, and the target of each."""

Cost = Float[np.ndarray, "queries targets"]

PROBABILITY_EPS = 1e-8
"""Keeps the logarithms of the class cost finite."""


class Targets(NamedTuple):
    """The ground truths of a batch, image 0's first.

    Attributes:
        boxes: in centre form.
        classes: 0 to classes - 1.
        counts: number of targets of each image.
    """

    boxes: Float[np.ndarray, "targets 4"]
    classes: Integer[np.ndarray, " targets"]
    counts: Sequence[int]

    def of_image(self, image: int) -> slice:
        """Where an image's own targets are."""
        first = sum(self.counts[:image])
        return slice(first, first + self.counts[image])


class MaskInputs(NamedTuple):
    """What masks cost in matching is computed of.

    Attributes:
        masks: logits of one layer.
        gt_masks: for each target 1 on the object and 0 beside it.
        points: for each image those that all of its queries and targets are compared at.
    """

    masks: Float[np.ndarray, "images queries height width"]
    gt_masks: Float[np.ndarray, "targets gt_height gt_width"]
    points: Float[np.ndarray, "images points 2"]


@dataclass(frozen=True)
class CostTerms:
    """The three terms of the matching cost of one image, before gains."""

    cls: Cost
    bbox: Cost
    giou: Cost


def focal_class_cost(
    logits: Float[np.ndarray, "queries classes"], classes: Integer[np.ndarray, " targets"], config: MatcherConfig
) -> Cost:
    """What the focal loss would gain by making this query a positive of the target's class.

        alpha (1 - p)^gamma (-log(p + 1e-8)) - (1 - alpha) p^gamma (-log(1 - p + 1e-8))

    Reference: Zhu et al., Deformable DETR, arXiv 2010.04159, section 5.
    """
    return focal_cost_of(logits[:, classes], config.alpha, config.gamma, PROBABILITY_EPS)


def focal_cost_of(x: Cost, alpha: float, gamma: float, eps: float) -> Cost:
    """The formula of `focal_class_cost` for logits of the targets' classes, with eps inside its logarithms."""
    p = sigmoid(x)
    positive = alpha * (1.0 - p) ** gamma * -np.log(p + eps)
    negative = (1.0 - alpha) * p**gamma * -np.log(1.0 - p + eps)
    return positive - negative


def recipe_focal_class_cost(
    logits: Float[np.ndarray, "queries classes"], classes: Integer[np.ndarray, " targets"], config: MatcherConfig
) -> Cost:
    """The focal class cost with alpha 0.25 and gamma 2, whatever is asked for."""
    return focal_cost_of(logits[:, classes], 0.25, 2.0, PROBABILITY_EPS)


def barely_guarded_focal_class_cost(
    logits: Float[np.ndarray, "queries classes"], classes: Integer[np.ndarray, " targets"], config: MatcherConfig
) -> Cost:
    """The focal class cost with 1e-12 inside its logarithms."""
    return focal_cost_of(logits[:, classes], config.alpha, config.gamma, 1e-12)


def unguarded_focal_class_cost(
    logits: Float[np.ndarray, "queries classes"], classes: Integer[np.ndarray, " targets"], config: MatcherConfig
) -> Cost:
    """The focal class cost with gamma 2 and exact logarithms, which nothing needs to keep finite."""
    x = logits[:, classes]
    positive = config.alpha * sigmoid(-x) ** 2.0 * softplus(-x)
    negative = (1.0 - config.alpha) * sigmoid(x) ** 2.0 * softplus(x)
    return positive - negative


def softmax_class_cost(
    logits: Float[np.ndarray, "queries classes"],
    classes: Integer[np.ndarray, " targets"],
    config: MatcherConfig,
) -> Cost:
    """Minus the probability of the target's class among all classes.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1.
    """
    weights = np.exp(logits - plain(logits).max(axis=-1, keepdims=True))
    return -(weights / np.sum(weights, axis=-1)[:, None])[:, classes]


def weighted_sum(terms: CostTerms, gain: Mapping[str, float]) -> Cost:
    """gain_class cls + gain_bbox bbox + gain_giou giou."""
    return gain["class"] * terms.cls + gain["bbox"] * terms.bbox + gain["giou"] * terms.giou


def non_finite_is_zero(cost: Cost) -> Cost:
    """quirk: NaN and infinity become 0, which makes a broken prediction cheap instead of expensive."""
    return np.where(np.isfinite(cost), cost, 0.0)


def cheapest(cost: Cost) -> Matching:
    """The cheapest one-to-one assignment of one image."""
    assignment = linear_sum_assignment(plain(cost))
    return assignment.rows, assignment.columns


def image_by_image(
    matcher: Matcher,
    config: MatcherConfig,
    boxes: Float[np.ndarray, "images queries 4"],
    logits: Float[np.ndarray, "images queries classes"],
    targets: Targets,
    masks: MaskInputs | None = None,
) -> list[Matching]:
    """Each image's queries with its own targets, which count through the whole batch."""
    matchings = []
    for image in range(len(targets.counts)):
        own = targets.of_image(image)
        of_image = boxes[image], logits[image], targets.boxes[own], targets.classes[own]
        cost = matcher.cost(config, *of_image, further=matcher.cost_of_masks(config, masks, image, own))
        queries, chosen = matcher.assign(cost)
        matchings.append((queries, own.start + chosen))
    return matchings


def hard_wired(config: LossConfig) -> MatcherConfig:
    """Gains class 2, bbox 5, giou 2, alpha 0.25, gamma 2: no option of the loss reaches its matcher (quirk)."""
    return MatcherConfig()


def unchanged(matcher: Matcher) -> Matcher:
    """Costs in float32 or better, whatever the predictions are."""
    return matcher


def itself(matcher: Matcher) -> Matcher:
    """One matcher for the loss and for who calls it alone."""
    return matcher


@dataclass(frozen=True)
class Matcher:
    """One-to-one assignment of queries to targets at the least total cost, image by image.

        cost = gain_class cls + gain_bbox sum|b - b'| + gain_giou (1 - GIoU(b, b'))

    Nothing of it carries a gradient.

    Attributes:
        configured: the options of the matcher inside a loss, from the options of the loss.
        class_costs: `focal` or `softmax`, or both, from logits, classes and the matcher's options.
        distance: of two boxes.
        overlap: of two boxes, from -1 to 1.
        guard: what keeps the areas of the overlap from 0.
        total: the three terms to one cost.
        non_finite: what a cost becomes that is no finite number.
        assign: the pairs of one image, from its costs.
        batch: the pairs of all images.
        in_half: the matcher for predictions in float16.
        inside_loss: the matcher as the loss uses it, from the one that is called alone; in every convention the same.
        mask_costs: what the masks of one image cost, from logits, masks of targets and points; None where they cost
            nothing.
        built: the options that a matcher of its own is built with, from those that are meant and how they are passed.

    Reference: Carion et al., DETR, arXiv 2005.12872, equation 1, section 3.1 and appendix A.2.
    """

    configured: Callable[[LossConfig], MatcherConfig] = hard_wired
    class_costs: Mapping[str, Callable[..., Cost]] = field(
        default_factory=lambda: {"focal": focal_class_cost, "softmax": softmax_class_cost}
    )
    distance: Callable[..., Any] = l1_distance
    overlap: Callable[..., Any] = giou
    guard: Guard = Guard()  # noqa: RUF009  # frozen
    total: Callable[[CostTerms, Mapping[str, float]], Cost] = weighted_sum
    non_finite: Callable[[Cost], Cost] = non_finite_is_zero
    assign: Callable[[Cost], Matching] = cheapest
    batch: Callable[..., list[Matching]] = image_by_image
    in_half: Callable[[Matcher], Matcher] = unchanged
    inside_loss: Callable[[Matcher], Matcher] = itself
    mask_costs: Callable[..., MaskCosts] | None = None
    built: Callable[[MatcherConfig, str], MatcherConfig] = as_meant

    def class_cost(self, config: MatcherConfig) -> Callable[..., Cost]:
        """The class cost that is asked for, or the only one there is."""
        name = "focal" if config.use_fl else "softmax"
        return self.class_costs.get(name) or next(iter(self.class_costs.values()))

    def cost_terms(
        self,
        config: MatcherConfig,
        boxes: Float[np.ndarray, "queries 4"],
        logits: Float[np.ndarray, "queries classes"],
        gt_boxes: Float[np.ndarray, "targets 4"],
        gt_classes: Integer[np.ndarray, " targets"],
    ) -> CostTerms:
        """The three terms of the cost, each for every pair of one image."""
        pairs = boxes[:, None], gt_boxes[None]
        return CostTerms(
            cls=self.class_cost(config)(logits, gt_classes, config),
            bbox=self.distance(*pairs),
            giou=1.0 - self.overlap(*pairs, self.guard),
        )

    def cost(self, config: MatcherConfig, *of_image: np.ndarray, further: Cost | None = None) -> Cost:
        """Gain-weighted cost of every (query, target) pair of one image, non-finite entries replaced.

        Args:
            config: the matcher's options.
            of_image: see `cost_terms`.
            further: what is added to the weighted terms, such as costs of masks.
        """
        # Predictions may be NaN or infinite here; the last step deals with what comes of it.
        with np.errstate(all="ignore"):
            total = self.total(self.cost_terms(config, *of_image), config.cost_gain)
            return self.non_finite(total if further is None else total + further)

    def cost_of_masks(self, config: MatcherConfig, given: MaskInputs | None, image: int, own: slice) -> Cost | None:
        """What the masks of one image and of its own targets add to its costs; None for nothing.

        A gain that is not named is 0.
        """
        gain = config.cost_gain
        if given is None or self.mask_costs is None or not gain.keys() & {"mask", "dice"}:
            return None
        with np.errstate(all="ignore"):  # as above
            costs = self.mask_costs(given.masks[image], given.gt_masks[own], given.points[image])
            return gain.get("mask", 0.0) * costs.mask + gain.get("dice", 0.0) * costs.dice

    def match(
        self,
        config: MatcherConfig,
        boxes: Float[np.ndarray, "images queries 4"],
        logits: Float[np.ndarray, "images queries classes"],
        targets: Targets,
        masks: MaskInputs | None = None,
    ) -> list[Matching]:
        """For each image min(queries, its targets) pairs; targets count through the whole batch."""
        return self.batch(self, config, boxes, logits, targets, masks)


def group_by_group(
    match: Callable[..., Sequence[Matching]],
    boxes: Float[np.ndarray, "images queries 4"],
    logits: Float[np.ndarray, "images queries columns"],
    targets: Targets,
    groups: int,
    masks: MaskInputs | None = None,
) -> list[Matching]:
    """The matching of one layer whose queries fall into groups of one size, each matched with all targets.

    Reference: Chen et al., Group DETR, arXiv 2207.13085, section 3.2.
    """
    size = boxes.shape[1] // groups
    starts, matchings = [size * group for group in range(groups)], []
    for start in starts:
        own = slice(start, start + size)
        of_masks = None if masks is None else masks._replace(masks=masks.masks[:, own])
        matchings.append(match(boxes[:, own], logits[:, own], targets, of_masks))
    return [
        (
            np.concatenate([start + queries for start, (queries, _) in zip(starts, of_image, strict=True)]),
            np.concatenate([chosen for _, chosen in of_image]),
        )
        for of_image in zip(*matchings, strict=True)
    ]


def masks_to_match(further: Mapping[str, Any], constants: Mapping[str, Any]) -> MaskInputs | None:
    """What a matcher needs to compare the masks of a layer; None where the call has no masks, or no points."""
    if "masks" not in further or "cost_points" not in constants:
        return None
    return MaskInputs(further["masks"], constants["gt_masks"], constants["cost_points"])


def flat(
    matching: Sequence[Matching],
) -> tuple[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]], Int64[np.ndarray, " pairs"]]:
    """All pairs of a batch as flat indices: ((image, query), target)."""
    images = [np.full(len(queries), image) for image, (queries, _) in enumerate(matching)]
    queries, targets = ([pair[side] for pair in matching] for side in (0, 1))
    return (_joined(images), _joined(queries)), _joined(targets)


def _joined(parts: Sequence[np.ndarray]) -> Int64[np.ndarray, " pairs"]:
    """Indices of all images in one array, also where there is none."""
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)


def pairs_of_each_image(matching: Sequence[Matching]) -> tuple[int, ...]:
    """How many pairs each image has."""
    return tuple(len(queries) for queries, _ in matching)
