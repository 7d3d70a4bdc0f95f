"""Mutants in what masks cost in matching."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import replace_in
from detr_conformance.reference.classification import binary_cross_entropy
from detr_conformance.reference.family import MASKDINO
from detr_conformance.reference.masks import MaskCosts, mask_costs, sampled

Masks = Float[np.ndarray, "queries height width"]
Objects = Float[np.ndarray, "targets gt_height gt_width"]
Points = Float[np.ndarray, "points 2"]
Right = Callable[[Masks, Objects, Points], MaskCosts]


def without_dice(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """Dice costs nothing."""
    costs = right(masks, objects, points)
    return costs._replace(dice=np.zeros(costs.dice.shape))


def without_entropy(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """The cross-entropy costs nothing."""
    costs = right(masks, objects, points)
    return costs._replace(mask=np.zeros(costs.mask.shape))


def of_objects_alone(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """Points beside an object cost nothing."""
    x, t = sampled(masks, points), sampled(objects, points)
    on = binary_cross_entropy(x, np.ones(x.shape))
    mask = np.stack([np.sum(t * each, axis=-1) / len(points) for each in on])
    return right(masks, objects, points)._replace(mask=mask)


def summed(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """The cross-entropy is added up over points."""
    costs = right(masks, objects, points)
    return costs._replace(mask=costs.mask * len(points))


def target_turned(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """Targets are read with rows in the place of columns."""
    return right(masks, objects.swapaxes(-2, -1), points)


def gains_swapped(right: Right, masks: Masks, objects: Objects, points: Points) -> MaskCosts:
    """Each has the gain of the other."""
    costs = right(masks, objects, points)
    return MaskCosts(mask=costs.dice, dice=costs.mask)


def at_pixels(right: Right, masks: Masks, objects: Objects, _points: Points) -> MaskCosts:
    """At the centres of the pixels of the targets, all of them."""
    height, width = objects.shape[-2:]
    rows, columns = np.divmod(np.arange(height * width), width)
    return right(masks, objects, np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=-1))


def sixteenth_of_pixels(_right: Callable[[int, int], int], height: int, width: int) -> int:
    """As RF-DETR has it."""
    return height * width // 16


MATCHER = "IDEA-Research/MaskDINO, maskdino/modeling/matcher.py"


def cost_mutant(id: str, story: str, change: Change) -> Mutant:  # noqa: A002  # as in Mutant
    """One under Mask DINO."""
    return Mutant(id, "MASK", story, MATCHER, change, home=MASKDINO)


MASK_COST_MUTANTS: tuple[Mutant, ...] = (
    cost_mutant(
        "plausible-matched-without-masks",
        "Masks have no part in matching, as in DETR. Right under this profile: they cost cross-entropy and dice. Shows "
        "where boxes and classes are alike.",
        lambda spec: replace_in(spec, "matcher.mask_costs", None),
    ),
    cost_mutant(
        "plausible-focal-cost-of-masks",
        "Masks cost the focal loss, as with_mask of Ultralytics' matcher. Right under this profile: the cross-entropy. "
        "Shows where masks decide.",
        lambda spec: replace_in(spec, "matcher.mask_costs", mask_costs),
    ),
    cost_mutant(
        "plausible-no-dice-cost",
        "Dice costs nothing in matching. Right: it does. Shows where masks decide.",
        wrapped("matcher.mask_costs", without_dice),
    ),
    cost_mutant(
        "plausible-no-entropy-cost",
        "The cross-entropy of masks costs nothing in matching. Right: it does. Shows where masks decide.",
        wrapped("matcher.mask_costs", without_entropy),
    ),
    cost_mutant(
        "plausible-mask-cost-of-objects-alone",
        "Only the points on an object cost cross-entropy. Right: those beside it too. Shows where masks decide.",
        wrapped("matcher.mask_costs", of_objects_alone),
    ),
    cost_mutant(
        "plausible-mask-cost-summed",
        "The cross-entropy is added up over points in the cost. Right: averaged. Shows with two points.",
        wrapped("matcher.mask_costs", summed),
    ),
    cost_mutant(
        "plausible-mask-cost-turned",
        "The matcher reads targets with rows and columns exchanged. Right: as the losses do. Shows on objects that are "
        "not alike across and down.",
        wrapped("matcher.mask_costs", target_turned),
    ),
    cost_mutant(
        "plausible-gains-of-mask-costs-swapped",
        "Cross-entropy has the gain of dice in the cost, and dice that of cross-entropy. Right: each its own. Shows "
        "where the two differ.",
        wrapped("matcher.mask_costs", gains_swapped),
    ),
    cost_mutant(
        "plausible-mask-cost-of-all-pixels",
        "The matcher compares masks at all pixels of the targets. Right under this profile: at the points of the "
        "image. Shows where masks decide.",
        wrapped("matcher.mask_costs", at_pixels),
    ),
    cost_mutant(
        "plausible-matcher-draws-a-sixteenth",
        "The matcher draws a sixteenth of the pixels. Right under this profile: 112 x 112 points. Shows in what it "
        "asks its sampler for.",
        wrapped("mask_points.matcher", sixteenth_of_pixels),
    ),
)
"""Mistakes in the cost."""
