"""Cases put on stage: who is matched with whom, and how far off every prediction is, can be seen without any solver.

The targets of an image stand far apart. In every layer each has one query that predicts its class and its box, moved by
a known distance; the other queries are parked in the middle of the image and claim nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import ReturnedLosses
from detr_conformance.reference import Losses

BOXES = np.array(
    [[0.25, 0.25, 0.125, 0.25], [0.75, 0.25, 0.25, 0.125], [0.25, 0.75, 0.25, 0.25], [0.75, 0.75, 0.125, 0.125]]
)
"""Where targets stand; an image has room for so many."""
PARKED = np.array([0.5, 0.5, 0.0625, 0.0625])
CLAIM = 4.0
"""Logit of a class that is claimed; minus that for all others."""

STEP = 2.0**-13
"""The distance by which the marks of layers count."""
BASE = 4
"""Layer l is marked by BASE**l steps, so that the digits of a sum say how often it holds each layer."""


def staged(case: LossCase, moved_by: Sequence[float] | None = None, turned: bool = False) -> LossCase:
    """The case on stage, without denoising queries.

    Args:
        case: gives the sizes, labels and options; no image has more targets than queries, nor than `BOXES`.
        moved_by: for each layer, how far to the right of their targets the predictions lie; by default not at all.
        turned: in layer l target j is predicted by query j + l instead of query j.
    """
    moves = np.zeros(case.layers) if moved_by is None else moved_by
    gt_bboxes = np.concatenate([BOXES[:count] for count in case.gt_groups])
    boxes, logits = np.tile(PARKED, (*case.pred_bboxes.shape[:3], 1)), np.full(case.pred_scores.shape, -CLAIM)
    for layer, move in enumerate(moves):
        for image in range(case.images):
            own = case.of_image(image)
            queries = (np.arange(case.gt_groups[image]) + turned * layer) % case.queries
            boxes[layer, image, queries] = gt_bboxes[own] + np.array([move, 0.0, 0.0, 0.0])
            logits[layer, image, queries, case.gt_cls[own]] = CLAIM
    alike = case.taken(queries=[0] * case.queries)  # masks that decide nothing, where a matcher compares them
    return case.change(**{**alike, "pred_bboxes": boxes, "pred_scores": logits}, gt_bboxes=gt_bboxes, denoising=None)


def staged_denoising(case: LossCase, moved_by: Sequence[float]) -> LossCase:
    """The case with every positive denoising slot predicting its own target, moved to the right by a distance.

    Args:
        case: a case with denoising queries.
        moved_by: the distance for each denoising layer.
    """
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    boxes = np.tile(PARKED, (*denoising.bboxes.shape[:3], 1))
    gt_bboxes = np.concatenate([BOXES[:count] for count in case.gt_groups])
    for layer, move in enumerate(moved_by):
        for image, (slots, targets) in enumerate(zip(denoising.pos_idx, denoising.gt_idx, strict=True)):
            own = gt_bboxes[np.tile(targets, denoising.num_group)]
            boxes[layer, image, slots] = own + np.array([move, 0.0, 0.0, 0.0])
    return case.change(gt_bboxes=gt_bboxes, denoising=replace(denoising, bboxes=boxes))


def marks(layers: int) -> list[float]:
    """A distance for each layer, from which a sum over layers can be read."""
    return [STEP * BASE**layer for layer in range(layers)]


def assert_layers_counted(
    returned: ReturnedLosses, key: str, layers: Sequence[int], gain: float, expected: Losses
) -> None:
    """An L1 loss that holds each of these layers of a case moved by `marks` once, and no other layer."""
    __tracebackhide__ = True
    total = float(returned.value(key))
    found = _counted(total / gain)
    if found is not None:
        wanted = [int(layer in layers) for layer in range(len(found))]
        named = "times for layers 0, 1, …" if len(found) > 1 else "times"
        assert found == wanted, f"{key} counts the layers {found} {named}, expected {wanted}"  # noqa: S101  # as in rules
    returned.assert_number(key, gain * sum(STEP * BASE**layer for layer in layers), expected[key])


def _counted(total: float) -> list[int] | None:
    """How often a sum of marks holds each layer, as far as it holds any; None if it is no such sum."""
    steps = round(total / STEP) if np.isfinite(total) else -1
    if steps < 0 or abs(total / STEP - steps) > 0.25:
        return None
    digits = []
    while steps:
        steps, digit = divmod(steps, BASE)
        digits.append(digit)
    return digits
