"""MASK: masks in the matching cost, seen where they alone decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import has_costs_of_masks
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.mask_points import POINTS
from detr_conformance.properties.rules.matched import assert_optimal

ALIKE = Request(
    layers=(1, 2),
    images=(1, 3),
    queries=(2, 5),
    targets=(1, 3),
    denoising="never",
    special=(),
    real=False,
    extra="always",
)
GAINS = ((1.0, 0.0), (0.0, 1.0), (0.5, 3.0))
"""Of mask and dice in the cost."""
SIZES = ((8, 12), (16, 32))
"""Height and width of predicted masks."""


@rule(
    "MASK-22",
    source=f"{POINTS}: points in the matching cost, shared by all pairs of an image",
    request=replace(ALIKE, cheap=True),
    needs={"match", "mask_points"},
    among=has_costs_of_masks,
)
def masks_decide(port: PortUnderTest, case: LossCase) -> None:
    """Where all queries of an image have one box and one row of logits, their masks decide: the matching is the
    cheapest by binary cross-entropy and dice loss of masks at the points of the image, with the profile's gains."""
    assert_optimal(port, _alike_but_for_masks(case))


@rule(
    "MASK-23",
    source=f"{POINTS}; Li et al., Mask DINO, arXiv 2206.02777, section 3.4 (hybrid matching)",
    request=replace(ALIKE, matcher_options=True, cheap=True),
    needs={"match", "mask_points"},
    among=has_costs_of_masks,
)
def gains_of_mask_costs(port: PortUnderTest, case: LossCase) -> None:
    """A matcher built with gains for masks alone minimises the cost of masks: cross-entropy, dice, and their weighted
    sum."""
    for mask, dice in GAINS:
        gain = {"class": 0.0, "bbox": 0.0, "giou": 0.0, "mask": mask, "dice": dice}
        assert_optimal(port, case.change(matcher=replace(case.matcher, cost_gain=gain)))


@rule(
    "MASK-24",
    source=f"{POINTS}; Li et al., Mask DINO, arXiv 2206.02777, section 3.4 (hybrid matching)",
    request=ALIKE,
    needs={"mask_points"},
    among=has_costs_of_masks,
)
def masks_decide_inside_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """Where all queries of an image have one box and one row of logits, the losses are those of the queries that their
    masks match."""
    alike = _alike_but_for_masks(case)
    expected = port.expected(alike)
    port.loss(alike).assert_values(expected)


@rule(
    "MASK-25",
    source=f"{POINTS}: K points, drawn at random; the profile's number of them",
    request=replace(ALIKE, cheap=True),
    needs={"mask_points", "point_counts"},
    among=lambda spec: spec.mask_points is not None,
)
def number_of_points(port: PortUnderTest, case: LossCase) -> None:
    """Losses and matcher draw as many points as the profile says, from the size of predicted masks if that decides; how
    many images, queries and targets there are does not matter."""
    if case.masks is None or port.spec.mask_points is None:
        raise OutOfScope("the case has no masks")
    for size in SIZES:
        masks = replace(case.masks, pred_masks=np.zeros((*case.pred_bboxes.shape[:3], *size)))
        came, counts = port.point_counts(case.change(masks=masks)), port.spec.mask_points
        for who, wanted in (("losses", counts.losses(*size)), ("matcher", counts.matcher(*size))):
            assert came[who] == wanted, (
                f"for predicted masks of {size[0]} x {size[1]} pixels the {who} must draw {wanted} points; with "
                f"{case.images} x {case.queries} queries it drew {came[who]}"
            )


def _alike_but_for_masks(case: LossCase) -> LossCase:
    first = case.taken(queries=[0] * case.queries)
    return case.change(pred_bboxes=first["pred_bboxes"], pred_scores=first["pred_scores"])
