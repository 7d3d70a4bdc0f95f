"""Cases in which nobody doubts who is matched with whom: for rules that break predictions, or expect rough costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.tolerance import rounded

MOST_TARGETS = 2
"""In one image; they have the classes 0 and 1."""
PLACES = np.array([[0.25, 0.25, 0.25, 0.25], [0.75, 0.75, 0.25, 0.25]])
"""The targets of an image, about: far from each other."""
ASIDE = np.array([0.9375, 0.0625, 0.0625, 0.0625])
"""A query without a target, about: far from all of them."""
SHIFT = 0.03125
"""What the box of a matched query is off by, at least, so that its IoU is neither 0 nor 1."""
VARIETY = 0.125
"""How much of their own numbers boxes keep."""


def with_sure_pairs(case: LossCase, logit: float) -> LossCase:
    """The case with other targets, classes and boxes, in which query t of an image answers for its target t.

    It lies near that target, and so do the denoising queries that belong to it. All other queries lie aside. Columns
    of classes that no target has keep their logits, up to rounding: every format holds all new numbers.

    Args:
        case: at most `MOST_TARGETS` targets in an image, as many classes, and no fewer queries than targets.
        logit: of the class of its target in a query that has one; in all others it is the negative.
    """
    classes = np.concatenate([np.arange(count) for count in case.gt_groups])
    gt_bboxes = _exact(PLACES[classes] + VARIETY * _shares(case.gt_bboxes))
    targets = [np.arange(case.targets)[case.of_image(image)] for image in range(case.images)]
    slots = [np.arange(count) for count in case.gt_groups]
    changed = case.change(gt_cls=classes, gt_bboxes=gt_bboxes, denoising=None)
    boxes, logits = _answering(case.pred_bboxes, case.pred_scores, slots, targets, changed, logit)
    return changed.change(
        pred_bboxes=boxes,
        pred_scores=logits,
        denoising=None if case.denoising is None else _sure(case.denoising, changed, logit),
    )


def _sure(denoising: Denoising, case: LossCase, logit: float) -> Denoising:
    """Denoising queries of which the positive ones lie near the targets of the case."""
    targets = [np.tile(own, denoising.num_group) for own in denoising.gt_idx]
    boxes, logits = _answering(denoising.bboxes, denoising.scores, denoising.pos_idx, targets, case, logit)
    return replace(denoising, bboxes=boxes, scores=logits)


def _answering(
    boxes: np.ndarray,
    logits: np.ndarray,
    slots: tuple[np.ndarray, ...] | list[np.ndarray],
    targets: list[np.ndarray],
    case: LossCase,
    logit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and logits of which those in the slots of each image answer for its targets, one by one."""
    varied, logits = VARIETY / 2 * _shares(boxes), logits.copy()
    made = ASIDE + varied
    logits[..., :MOST_TARGETS] = -logit
    for image, (own, wanted) in enumerate(zip(slots, targets, strict=True)):
        made[:, image, own] = case.gt_bboxes[wanted] + SHIFT + varied[:, image, own]
        logits[:, image, own, case.gt_cls[wanted]] = logit
    return _exact(made), _exact(logits)


def _shares(boxes: np.ndarray) -> np.ndarray:
    """Coordinates from 0 to 1."""
    return np.clip(boxes, 0.0, 1.0)


def _exact(numbers: np.ndarray) -> np.ndarray:
    """The nearest ones that every format holds."""
    return rounded(numbers, "bfloat16")
