"""What the reference says about a case under a profile: losses, matching costs, and whether the matching is certain."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from detr_conformance.properties import tolerance
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.properties.profiles import Profile
from detr_conformance.reference import HungarianMatcher, Losses, RTDETRDetectionLoss, magnitude, track
from detr_conformance.reference.rounding import plain

KEPT = 2048
"""Answers that are kept: rules that ask for the same cases, and ports that are judged together, share them."""


def build_loss(case: LossCase, profile: Profile, kind: type[RTDETRDetectionLoss] | None = None) -> RTDETRDetectionLoss:
    """The reference loss of the profile, built as the case says, judging arithmetic of the case's dtype."""
    loss = (kind or profile.loss)(**asdict(case.config))
    loss.arithmetic = tolerance.arithmetic(case.dtype)
    return loss


def evaluate(loss: RTDETRDetectionLoss, case: LossCase) -> Losses:
    """All losses of the case under the base profile's keys."""
    batch = {"cls": case.gt_cls, "bboxes": case.gt_bboxes, "gt_groups": case.gt_groups}
    predictions = (case.pred_bboxes, case.pred_scores)
    if case.denoising is None:
        return loss(predictions, batch)
    meta = {
        "dn_pos_idx": case.denoising.pos_idx,
        "dn_gt_idx": case.denoising.gt_idx,
        "dn_num_group": case.denoising.num_group,
    }
    return loss(predictions, batch, case.denoising.bboxes, case.denoising.scores, meta)


@lru_cache(maxsize=KEPT)
def expected_losses(case: LossCase, profile: Profile) -> Losses:
    """What a port of the profile must return, under the base profile's keys."""
    return evaluate(build_loss(case, profile), case)


def build_matcher(case: LossCase, profile: Profile) -> HungarianMatcher:
    """The profile's matcher with the options of the case."""
    matcher = build_loss(case, profile).matcher
    matcher.cost_gain = dict(case.matcher.cost_gain)
    matcher.use_fl, matcher.alpha, matcher.gamma = case.matcher.use_fl, case.matcher.alpha, case.matcher.gamma
    return matcher


@lru_cache(maxsize=KEPT)
def matching_costs(case: LossCase, profile: Profile) -> list[list[Float[np.ndarray, "queries targets"]]]:
    """Cost of every pair, for each layer and in it for each image."""
    matcher = build_matcher(case, profile)
    arithmetic = tolerance.arithmetic(cost_dtype(case.dtype))
    boxes, logits = track(case.pred_bboxes, arithmetic), track(case.pred_scores, arithmetic)
    images = []
    for image in range(case.images):
        own = case.of_image(image)
        # The cost of a pair does not depend on other queries: those of all layers go in one call.
        rows = boxes[:, image].reshape(-1, 4), logits[:, image].reshape(-1, case.config.nc)
        cost = matcher.cost(*rows, case.gt_bboxes[own], case.gt_cls[own])
        images.append(cost.reshape(case.layers, case.queries, -1))
    return [[cost[layer] for cost in images] for layer in range(case.layers)]


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


@lru_cache(maxsize=KEPT)
def matching_is_certain(case: LossCase, profile: Profile) -> bool:
    """Whether rounding cannot change who is matched with whom, in any layer and image.

    Only then does the loss itself have one value. Cases with ties are left to the rules on matching.
    """
    return all(
        is_unambiguous(plain(cost), allowed_cost_error(cost, case.dtype))
        for layer in matching_costs(case, profile)
        for cost in layer
    )
