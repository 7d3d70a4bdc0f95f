"""MASK: the losses of masks, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_masks import Masks
from detr_conformance.properties.divisors import keys_of
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import has_masks
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import images_of_one_size, many_images

DETR = "Carion et al., DETR, arXiv 2005.12872, section 4.4"
MASKED = Request(layers=(1, 3), images=(1, 3), queries=(1, 5), targets=(0, 3), real=False, extra="always")
MANY_PAIRS = 129
FEW = replace(MASKED, layers=(1, 2), queries=(2, 5), targets=(1, 3), special=())


@rule("MASK-01", source=f"{DETR}, with the focal loss", request=MASKED, needs={"masks"}, among=has_masks)
def mask_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_mask is the gain times the sum over the matched pairs of the focal loss, alpha 0.25 and gamma 2, averaged
    over the pixels of the batch, divided by the profile's normaliser."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "mask"))


@rule("MASK-02", source=f"{DETR}, with the dice loss", request=MASKED, needs={"masks"}, among=has_masks)
def dice_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_dice is the gain times the sum over the matched pairs of 1 - (2 sum p t + 1) / (sum p + sum t + 1), sums
    over the pixels of the batch, p the sigmoid of the prediction, divided by the profile's normaliser."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "dice"))


@rule(
    "MASK-03",
    source="derivatives of the losses named in MASK-01 and MASK-02",
    request=MASKED,
    needs={"masks", "gradients"},
    among=has_masks,
)
def mask_gradients(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_mask and loss_dice with respect to every pixel of every predicted mask is the derivative of
    its formula, through the change of size; no box and no logit of a class has one."""
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_gradients(expected, [*keys_of(expected, "mask"), *keys_of(expected, "dice")])


@rule(
    "MASK-04",
    source=f"{DETR}: masks of matched queries",
    request=FEW,
    needs={"masks", "gradients"},
    among=has_masks,
)
def only_matched_masks_count(port: PortUnderTest, case: LossCase) -> None:
    """No loss has a gradient with respect to a mask of a query without a target, or to one of a layer without losses of
    masks."""
    expected, returned = port.expected(case), port.loss(case)
    for key in expected:
        allowed, name = expected[key].gradients.get("pred_masks"), "pred_masks"
        nothing = np.full(case.pred_bboxes.shape[:3], True)
        if allowed is not None:
            nothing = ((allowed.values == 0.0) & (allowed.magnitude == 0.0)).all(axis=(3, 4))
        worst = float(np.abs(returned.gradient(key, name)[nothing]).max(initial=0.0))
        assert worst == 0.0, (
            f"gradient of {key} with respect to {name} must be 0 at every mask without a target, "
            f"one there is {worst:.3g}"
        )


@rule(
    "MASK-05",
    source=f"{DETR}; facebookresearch/detr, util/misc.py: nested_tensor_from_tensor_list pads with zeros",
    request=replace(FEW, images=(2, 3)),
    needs={"masks"},
    among=has_masks,
)
def padding_is_background(port: PortUnderTest, case: LossCase) -> None:
    """An image that is smaller than the largest of its batch is padded with background: its losses of masks are those
    of an image of the size of the batch whose objects lie in the upper left corner."""
    expected, once, padded = port.expected(case), port.loss(case), port.loss(images_of_one_size(case))
    for key in (*keys_of(expected, "mask"), *keys_of(expected, "dice")):
        padded.assert_alike(once, key, expected[key])


@rule(
    "MASK-06",
    source="both losses are sums over pixels, which have no order",
    request=FEW,
    needs={"masks"},
    among=has_masks,
)
def order_of_pixels(port: PortUnderTest, case: LossCase) -> None:
    """Where predictions have the size of their targets, pixels may be put into another order, in both alike."""
    masks = of_target_size(case)
    same = case.change(masks=masks)
    order = np.random.default_rng(len(case.gt_cls)).permutation(masks.size[0] * masks.size[1])
    shuffled = case.change(
        masks=replace(masks, pred_masks=_reordered(masks.pred_masks, order), gt_masks=_reordered(masks.gt_masks, order))
    )
    expected, once, again = port.expected(same), port.loss(same), port.loss(shuffled)
    for key in (*keys_of(expected, "mask"), *keys_of(expected, "dice")):
        again.assert_alike(once, key, expected[key])


@rule(
    "MASK-07",
    source="losses are sums over pairs: none without a pair",
    request=replace(MASKED, all_empty=True, denoising="never"),
    needs={"masks"},
    among=has_masks,
)
def no_targets_no_mask_loss(port: PortUnderTest, case: LossCase) -> None:
    """In a batch without any target both losses of masks are exactly 0."""
    expected, returned = port.expected(case), port.loss(case)
    for key in (*keys_of(expected, "mask"), *keys_of(expected, "dice")):
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 without a target, the port returned {value:.9g}"


@rule(
    "MASK-11",
    source=f"{DETR}: losses are normalised by the number of objects in the batch",
    request=replace(MASKED, queries=(1, 2), targets=(3, 4), denoising="never"),
    needs={"masks"},
    among=has_masks,
)
def more_targets_than_queries_with_masks(port: PortUnderTest, case: LossCase) -> None:
    """With fewer queries than targets the losses of masks are those of the pairs there are, divided by the profile's
    normaliser, which is the number of targets."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, [*keys_of(expected, "mask"), *keys_of(expected, "dice")])


@rule(
    "MASK-26",
    source=f"{DETR}: losses are sums over all objects of the batch",
    request=replace(FEW, images=(2, 3), denoising="never"),
    needs={"masks"},
    among=has_masks,
)
def masks_of_many_pairs(port: PortUnderTest, case: LossCase) -> None:
    """A batch with more than a hundred and twenty-eight pairs has the losses of masks of all of them: none is left out
    to save memory."""
    many = many_images(case, MANY_PAIRS)
    expected = port.expected(many)
    port.loss(many).assert_values(expected, [*keys_of(expected, "mask"), *keys_of(expected, "dice")])


def of_target_size(case: LossCase) -> Masks:
    """The masks of the case with predictions in the size of the targets, whose pixels repeat those that there were, and
    images of one size; OutOfScope for a case that somebody brings without any."""
    if case.masks is None:
        raise OutOfScope("the case has no masks")
    masks = case.masks.of_one_size()
    rows, columns = (
        np.arange(wanted) % pixels for wanted, pixels in zip(masks.size, masks.pred_masks.shape[3:], strict=True)
    )
    return replace(masks, pred_masks=masks.pred_masks[..., rows, :][..., columns].copy())


def _reordered(masks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Masks with their pixels in another order."""
    return masks.reshape(*masks.shape[:-2], -1)[..., order].reshape(masks.shape)
