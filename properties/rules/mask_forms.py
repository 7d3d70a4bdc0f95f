"""MASK: masks whose losses are known without the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_masks import Masks
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import has_masks
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.mask import DETR, FEW, of_target_size
from detr_conformance.properties.staged import staged
from detr_conformance.properties.transforms import reverse_queries

SURE = 32.0
"""Logit of a pixel that is surely the object's: 1 less its sigmoid is below the rounding of float32."""
LEVELS = (0.0, -3.0)
ALIKE = replace(FEW, denoising="never")
STAGED = replace(ALIKE, queries=(3, 5), targets=(2, 3))
DICE = "Milletari et al., V-Net, arXiv 1606.04797, section 3, without the squares; " + DETR


@rule("MASK-08", source=DICE, request=STAGED, needs={"masks"}, among=has_masks)
def perfect_masks(port: PortUnderTest, case: LossCase) -> None:
    """A prediction that is sure of every pixel of its own target, and right, has no loss: loss_mask and loss_dice are
    0, also of an empty object. One that is as sure, and all wrong, has a loss_dice of 1 - 1 / (pixels + 1) for each
    pair. What other queries and other layers predict does not matter."""
    for sign, of_dice in ((1.0, 0.0), (-1.0, None)):
        stage = _sure_of_own_target(case, sign)
        masks, pairs = _masks(stage), float(stage.targets)
        pixels = masks.size[0] * masks.size[1]
        # All wrong: sum p t is 0, and sum p + sum t the number of pixels.
        dice = pairs * (1.0 - 1.0 / (pixels + 1.0)) if of_dice is None else of_dice
        share = float(masks.gt_masks.mean(axis=(1, 2)).sum())
        focal = 0.0 if of_dice is not None else SURE * (0.25 * share + 0.75 * (pairs - share))
        expected, returned = port.expected(stage), port.loss(stage)
        returned.assert_number("loss_mask", weight(port, stage, "mask") * focal, expected["loss_mask"])
        returned.assert_number("loss_dice", weight(port, stage, "dice") * dice, expected["loss_dice"])


@rule(
    "MASK-09",
    source="Lin et al., Focal Loss, arXiv 1708.02002, equation 5, with alpha 0.25 and gamma 2",
    request=ALIKE,
    needs={"masks"},
    among=has_masks,
)
def even_masks(port: PortUnderTest, case: LossCase) -> None:
    """A mask of one logit everywhere stays one in every size. Both losses of it follow from the number of pixels and
    that of the object's."""
    for level in LEVELS:
        _assert_of_alike(port, _all_alike(case, np.full(_masks(case).pred_masks.shape[3:], level)))


@rule(
    "MASK-10",
    source="Carion et al., DETR, arXiv 2005.12872, section 4.4: masks are resized; corners are not aligned, a pixel is "
    "a cell and its value belongs to the centre",
    request=ALIKE,
    needs={"masks"},
    among=has_masks,
)
def masks_are_resized_between_centres(port: PortUnderTest, case: LossCase) -> None:
    """Predictions are brought to the size of their targets, bilinearly and with corners not aligned: of two pixels a, b
    come four, a, (3 a + b) / 4, (a + 3 b) / 4, b; of four come two, the means of two neighbours each."""
    few, many = np.array([[-2.0, 4.0]]), np.array([[-2.0, 4.0, 1.0, -1.0]])
    between, means = np.array([[-2.0, -0.5, 2.5, 4.0]]), np.array([[1.0, 0.0]])
    for predicted, resized in ((few, between), (many, means)):
        for turned in (False, True):
            pred, wanted = (each.T if turned else each for each in (predicted, resized))
            objects = (np.arange(wanted.size) % 2.0).reshape(wanted.shape)
            _assert_of_alike(port, _all_alike(case, pred, objects), wanted)


def _masks(case: LossCase) -> Masks:
    assert case.masks is not None  # the rules draw such cases only
    return case.masks


def _sure_of_own_target(case: LossCase, sign: float) -> LossCase:
    """Every target has a query whose mask is its own, or the opposite of it; other masks are the other way round.

    The last query is the first target's, and so on: neither pairs in order of targets nor in order of queries are
    those of the batch.
    """
    stage = staged(case)
    masks = of_target_size(stage)
    pred = np.full(masks.pred_masks.shape, -sign * SURE)
    for image in range(stage.images):
        own = masks.gt_masks[stage.of_image(image)]
        pred[-1, image, : len(own)] = sign * SURE * (2.0 * own - 1.0)
    return reverse_queries(stage.change(masks=replace(masks, pred_masks=pred)))


def _all_alike(case: LossCase, predicted: np.ndarray, objects: np.ndarray | None = None) -> LossCase:
    """The case in which all predictions have one mask, and all targets: by default those of the first target."""
    masks = _masks(case).of_one_size()
    own = masks.gt_masks[0] if objects is None else objects
    return case.change(
        masks=Masks(
            pred_masks=np.tile(predicted, (*case.pred_bboxes.shape[:3], 1, 1)),
            gt_masks=np.tile(own, (case.targets, 1, 1)),
            sizes=(own.shape,) * case.images,
        )
    )


def _assert_of_alike(
    port: PortUnderTest, case: LossCase, resized: Float[np.ndarray, "height width"] | None = None
) -> None:
    """Both losses of a case of equal pairs; the prediction in its target's size is given, or has one value."""
    __tracebackhide__ = True
    masks = _masks(case)
    t = masks.gt_masks[0]
    x = np.full(t.shape, masks.pred_masks[0, 0, 0, 0, 0]) if resized is None else resized
    p = 1.0 / (1.0 + np.exp(-x))
    truth = np.where(t == 1.0, p, 1.0 - p)
    focal = np.mean(np.where(t == 1.0, 0.25, 0.75) * (1.0 - truth) ** 2 * -np.log(truth))
    dice = 1.0 - (2.0 * np.sum(p * t) + 1.0) / (np.sum(p) + np.sum(t) + 1.0)
    pairs = sum(min(case.queries, count) for count in case.gt_groups)
    expected, returned = port.expected(case), port.loss(case)
    for term, of_pair in (("mask", focal), ("dice", dice)):
        key = f"loss_{term}"
        returned.assert_number(key, weight(port, case, term) * pairs * float(of_pair), expected[key])
