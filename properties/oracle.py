"""What the reference says about a case under a spec: losses, matching costs, and whether the matching is certain."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from detr_conformance.properties import tolerance
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.reference import Criterion, Inputs, Losses, LossSpec, magnitude, track
from detr_conformance.reference.inputs import DenoisingInputs
from detr_conformance.reference.loss import matcher_for, pairs_of_step
from detr_conformance.reference.matcher import MaskInputs, Targets, masks_to_match
from detr_conformance.reference.merged_batch import losses_of_ranks, losses_of_steps
from detr_conformance.reference.pairing import always_clear, own_per_layer
from detr_conformance.reference.rounding import plain

KEPT = 2048
"""Answers that are kept: rules that ask for the same cases, and ports that are judged together, share them."""
FEW = 10_000
"""Up to so many pairs it is quicker to compute the costs of targets of other images too than to go image by image."""


def inputs_of(case: LossCase) -> Inputs:
    """The case as the reference takes it, judging arithmetic of the case's dtype."""
    dn, denoising = case.denoising, None
    if dn is not None:
        further, constants = _extra(case, of_denoising=True)
        denoising = DenoisingInputs(dn.bboxes, dn.scores, dn.pos_idx, dn.gt_idx, dn.num_group, further, constants)
    further, constants = _extra(case)
    return Inputs(
        boxes=case.pred_bboxes,
        logits=case.pred_scores,
        targets=targets_of(case),
        denoising=denoising,
        arithmetic=tolerance.arithmetic(case.dtype),
        further=further,
        constants=constants,
    )


def _extra(case: LossCase, of_denoising: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What extra terms read: predictions by name, and constants by name."""
    further, constants = dict[str, np.ndarray](), dict[str, Any]()
    masks, dn = case.masks, case.denoising
    if masks is not None:
        own = dn.masks if of_denoising and dn is not None else masks.pred_masks
        further |= {} if own is None else {"masks": own}
        constants |= {name: array for name, array in masks.arrays().items() if name != "pred_masks"}
    given = case.distributions
    if given is not None:
        corners = dn.corners if of_denoising and dn is not None else given.pred_corners
        further |= {} if corners is None else {"corners": corners}
        constants["references"] = dn.references if of_denoising and dn is not None else given.references
    return further, constants


def masks_of_layers(case: LossCase) -> list[MaskInputs | None]:
    """For each layer what costs of masks are computed of; None where the case has no masks, or no points."""
    given, constants = _extra(case)
    return [
        masks_to_match({name: each[layer] for name, each in given.items()}, constants) for layer in range(case.layers)
    ]


def targets_of(case: LossCase) -> Targets:
    """The targets of the case."""
    return Targets(case.gt_bboxes, case.gt_cls, case.gt_groups)


@lru_cache(maxsize=KEPT)
def expected_losses(case: LossCase, spec: LossSpec) -> Losses:
    """What a port of the spec must return, under canonical keys."""
    return Criterion(spec, case.config)(inputs_of(case))


@lru_cache(maxsize=KEPT)
def expected_losses_of_ranks(cases: tuple[LossCase, ...], spec: LossSpec) -> list[Losses]:
    """What the ranks of a data-parallel run must return, each for its own case."""
    return losses_of_ranks(spec, cases[0].config, [inputs_of(case) for case in cases])


@lru_cache(maxsize=KEPT)
def expected_losses_of_steps(cases: tuple[LossCase, ...], spec: LossSpec) -> list[Losses]:
    """What the micro-batches of an optimiser step must return, each for its own case."""
    return losses_of_steps(spec, cases[0].config, [inputs_of(case) for case in cases])


@lru_cache(maxsize=KEPT)
def matching_costs(
    case: LossCase, spec: LossSpec, inside_loss: bool = False
) -> list[list[Float[np.ndarray, "queries targets"]]]:
    """Cost of every pair, for each layer and in it for each image.

    Args:
        case: the predictions and targets.
        spec: the conventions.
        inside_loss: by the options that the loss gives its matcher; otherwise by those of `case.matcher`, if it has any
            of its own.
    """
    matcher = matcher_for(spec, tolerance.arithmetic(case.dtype), inside_loss)
    config = matcher.configured(spec.options(case.config))
    if not inside_loss and case.changes_matcher:
        config = case.matcher
    arithmetic = tolerance.arithmetic(cost_dtype(case.dtype))
    boxes, logits = track(case.pred_bboxes, arithmetic), track(case.pred_scores, arithmetic)
    targets, masks = spec.target_boxes(track(case.gt_bboxes, arithmetic)), _mask_inputs(case)

    def cost_of(images: slice, own: slice, further: np.ndarray | None = None) -> np.ndarray:
        # The cost of a pair does not depend on other queries: those of all layers go in one call.
        of_images = boxes[:, images]
        rows = of_images.reshape(-1, 4), logits[:, images].reshape(-1, case.columns)
        cost = matcher.cost(config, *rows, targets[own], case.gt_cls[own], further=further)
        return cost.reshape(*of_images.shape[:3], cost.shape[1])

    if masks is None and case.layers * case.images * case.queries * case.targets <= FEW:
        together = cost_of(slice(None), slice(None))
        return [[of_layer[image][:, case.of_image(image)] for image in range(case.images)] for of_layer in together]
    images = []
    for image in range(case.images):
        own = case.of_image(image)
        of_masks = matcher.cost_of_masks(config, masks, image, own)
        images.append(cost_of(slice(image, image + 1), own, of_masks)[:, 0])
    return [[cost[layer] for cost in images] for layer in range(case.layers)]


def _mask_inputs(case: LossCase) -> MaskInputs | None:
    """What costs of masks are computed of, the queries of all layers one after the other; None where there is none."""
    masks, arithmetic = case.masks, tolerance.arithmetic(cost_dtype(case.dtype))
    if masks is None or masks.cost_points is None:
        return None
    layers_together = masks.pred_masks.swapaxes(0, 1).reshape(case.images, -1, *masks.pred_masks.shape[3:])
    return MaskInputs(track(layers_together, arithmetic), track(masks.gt_masks, arithmetic), masks.cost_points)


def cost_dtype(dtype: str) -> str:
    """What matching costs of predictions of this dtype are computed in: never less than float32."""
    return "float64" if dtype == "float64" else "float32"


def allowed_cost_error(cost: Float[np.ndarray, "queries targets"], dtype: str) -> Float[np.ndarray, "queries targets"]:
    """How far off a port's own matching costs may be.

    The matcher computes in float32 or better, whatever the dtype of the predictions. A solver works on sums of costs,
    in float32 at worst, hence the extra units of the largest of them.
    """
    precise = tolerance.PRECISIONS[cost_dtype(dtype)]
    largest = np.abs(plain(cost)).max(initial=0.0)
    return tolerance.UNITS * precise.eps * (magnitude(cost) + largest)


def of_groups(cost: Float[np.ndarray, "queries targets"], groups: int) -> list[Float[np.ndarray, "own targets"]]:
    """The costs of each group of queries."""
    size = len(cost) // groups
    return [cost[size * group : size * (group + 1)] for group in range(groups)]


@lru_cache(maxsize=KEPT)
def matching_is_certain(case: LossCase, spec: LossSpec) -> bool:
    """Whether rounding cannot change who is matched with whom, in any layer and image.

    Only then does the loss itself have one value. Cases with ties are left to the rules on matching.
    """
    groups, config = spec.query_groups(case.config), spec.options(case.config)
    layers = matching_costs(case, spec, inside_loss=True)
    costs = (own for layer in layers for cost in layer for own in of_groups(cost, groups))
    if not all(is_unambiguous(plain(cost), allowed_cost_error(cost, case.dtype)) for cost in costs):
        return False
    if spec.clear is always_clear:  # saves another matching
        return True
    pairs = pairs_of_step(replace(spec, pairing=own_per_layer), config, replace(inputs_of(case), denoising=None))
    return spec.clear([each.classes for each in pairs.ordinary])
