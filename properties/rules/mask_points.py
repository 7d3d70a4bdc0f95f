"""MASK: the losses of masks at points, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_masks import Masks
from detr_conformance.properties.divisors import keys_of, weight
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import has_masks_at_points, reads_masks_bilinearly
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference import Losses

POINTS = "Cheng et al., Mask2Former, arXiv 2112.01527, section 3.3"
GRID_SAMPLE = "torch.nn.functional.grid_sample with align_corners=False and zeros outside, as detectron2's point_sample"
AT_POINTS = Request(layers=(1, 3), images=(1, 3), queries=(1, 5), targets=(0, 3), real=False, extra="always")
FEW = replace(AT_POINTS, layers=(1, 2), queries=(3, 5), targets=(1, 3), special=(), denoising="never")

HEIGHT, WIDTH = 2, 4
"""Of the masks that a rule makes itself: powers of 2, so that the centres of their pixels are exact numbers."""
LEVELS = (-2.0, 0.5)
INNER = 0.5
"""On no edge of a mask of this size."""


@rule(
    "MASK-12",
    source=f"{POINTS}: binary cross-entropy",
    request=AT_POINTS,
    needs={"mask_points"},
    among=has_masks_at_points,
)
def mask_loss_at_points(port: PortUnderTest, case: LossCase) -> None:
    """loss_mask is the gain times the sum over the matched pairs of the binary cross-entropy, averaged over the points
    that are drawn for the pair, divided by the profile's normaliser. Prediction and target are both read at these
    points, as the profile reads them: by that of Mask DINO bilinearly, so that a target may be between 0 and 1."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "mask"))


@rule(
    "MASK-13",
    source=f"{POINTS}: dice loss",
    request=AT_POINTS,
    needs={"mask_points"},
    among=has_masks_at_points,
)
def dice_loss_at_points(port: PortUnderTest, case: LossCase) -> None:
    """loss_dice is the gain times the sum over the matched pairs of 1 - (2 sum p t + 1) / (sum p + sum t + 1), sums
    over the points that are drawn for the pair, p the sigmoid of the prediction there, divided by the profile's
    normaliser."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "dice"))


@rule(
    "MASK-14",
    source="derivatives of the losses named in MASK-12 and MASK-13",
    request=AT_POINTS,
    needs={"mask_points", "gradients"},
    among=has_masks_at_points,
)
def gradients_at_points(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_mask and loss_dice with respect to every pixel of every predicted mask is the derivative of
    its formula, by the share that the pixel has in each point; no box and no logit of a class has one."""
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_gradients(expected, _of_masks(expected))


@rule(
    "MASK-15",
    source=f"{POINTS}: masks are read at points alone",
    request=FEW,
    needs={"mask_points", "gradients"},
    among=has_masks_at_points,
)
def no_gradient_beside_points(port: PortUnderTest, case: LossCase) -> None:
    """No loss has a gradient with respect to a pixel of a mask that no point lies within one pixel of, or to a mask of
    a query without a target."""
    expected, returned = port.expected(case), port.loss(case)
    for key in expected:
        allowed, nothing = expected[key].gradients.get("pred_masks"), np.full(_masks(case).pred_masks.shape, True)
        if allowed is not None:
            nothing = (allowed.values == 0.0) & (allowed.magnitude == 0.0)
        worst = float(np.abs(returned.gradient(key, "pred_masks")[nothing]).max(initial=0.0))
        assert worst == 0.0, (
            f"gradient of {key} with respect to pred_masks must be 0 at every pixel that no point touches, "
            f"one there is {worst:.3g}"
        )


@rule(
    "MASK-16",
    source="both losses, and both costs, are sums over points, which have no order",
    request=replace(FEW, denoising="sometimes"),
    needs={"mask_points"},
    among=has_masks_at_points,
)
def order_of_points(port: PortUnderTest, case: LossCase) -> None:
    """The order of the points does not matter, neither in the losses nor in the matcher."""
    expected, once = port.expected(case), port.loss(case)
    turned = case.change(masks=_masks(case).with_points(lambda points: points[:, ::-1].copy()))
    again = port.loss(turned)
    for key in expected:
        again.assert_alike(once, key, expected[key])


@rule(
    "MASK-17",
    source=f"{POINTS}: masks are read at points alone",
    request=FEW,
    needs={"mask_points"},
    among=has_masks_at_points,
)
def pixels_beside_points(port: PortUnderTest, case: LossCase) -> None:
    """Where all points lie in one place, nothing matters that the masks of predictions and of targets have in other
    places."""
    masks = _masks(case).of_one_size()
    [place] = _masks(case).cost_points[0, :1]  # type: ignore[index]  # the rules draw cases with points
    one_place = masks.with_points(lambda points: np.broadcast_to(place, points.shape).copy())
    pred, gt = one_place.pred_masks, one_place.gt_masks
    elsewhere = replace(
        one_place,
        pred_masks=np.where(_touched(place, *pred.shape[-2:]), pred, -pred),
        gt_masks=np.where(_touched(place, *gt.shape[-2:]), gt, 1.0 - gt),
    )
    same = case.change(masks=one_place)
    expected, once, again = port.expected(same), port.loss(same), port.loss(case.change(masks=elsewhere))
    for key in expected:
        again.assert_alike(once, key, expected[key])


@rule(
    "MASK-18",
    source=f"{GRID_SAMPLE}: the value of a pixel belongs to its centre",
    request=FEW,
    needs={"mask_points"},
    among=reads_masks_bilinearly,
)
def points_on_centres_and_between(port: PortUnderTest, case: LossCase) -> None:
    """At the centre of a pixel a mask has the value of the pixel, and in the middle between the centres of two
    neighbours their mean: x counts columns from the left, y rows from the top."""
    logits = np.linspace(-2.0, 1.5, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    objects = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    rng = np.random.default_rng(case.targets)
    for half in (0, 1):
        rows, columns = rng.integers(HEIGHT, size=(case.targets, 3)), rng.integers(WIDTH - half, size=(case.targets, 3))
        points = np.stack([(columns + 0.5 + 0.5 * half) / WIDTH, (rows + 0.5) / HEIGHT], axis=-1)
        x, t = ((each[rows, columns] + each[rows, columns + half]) / 2.0 for each in (logits, objects))
        _assert_of_pairs(port, _all_alike(case, logits, objects, points), x, t)


@rule(
    "MASK-19",
    source=f"{GRID_SAMPLE}",
    request=FEW,
    needs={"mask_points"},
    among=reads_masks_bilinearly,
)
def points_on_the_border(port: PortUnderTest, case: LossCase) -> None:
    """Around a mask everything is 0: on its border, which is half a pixel away from the centres of the outermost, a
    prediction and a target have half of their value there, and in a corner a quarter."""
    border = np.array([[0.0, INNER], [1.0, INNER], [INNER, 0.0], [INNER, 1.0], [0.0, 0.0], [1.0, 1.0], [INNER, INNER]])
    share = np.array([0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 1.0])
    for level in LEVELS:
        masks = np.full((HEIGHT, WIDTH), level), np.ones((HEIGHT, WIDTH))
        points, shares = (np.broadcast_to(each, (case.targets, *each.shape)) for each in (border, share))
        _assert_of_pairs(port, _all_alike(case, *masks, points.copy()), level * shares, shares)


@rule(
    "MASK-20",
    source="losses are sums over pairs: none without a pair",
    request=replace(AT_POINTS, all_empty=True, denoising="never"),
    needs={"mask_points"},
    among=has_masks_at_points,
)
def no_targets_no_mask_loss_at_points(port: PortUnderTest, case: LossCase) -> None:
    """In a batch without any target both losses of masks are exactly 0."""
    expected, returned = port.expected(case), port.loss(case)
    for key in _of_masks(expected):
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 without a target, the port returned {value:.9g}"


@rule(
    "MASK-21",
    source="Carion et al., DETR, arXiv 2005.12872, section 4.4: normalised by the number of objects in the batch",
    request=replace(AT_POINTS, queries=(1, 2), targets=(3, 4), denoising="never"),
    needs={"mask_points"},
    among=has_masks_at_points,
)
def more_targets_than_queries_at_points(port: PortUnderTest, case: LossCase) -> None:
    """With fewer queries than targets the losses of masks are those of the pairs there are, each at the points of its
    own target, divided by the profile's normaliser."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, _of_masks(expected))


def _of_masks(expected: Losses) -> list[str]:
    return [*keys_of(expected, "mask"), *keys_of(expected, "dice")]


def _masks(case: LossCase) -> Masks:
    if case.masks is None or case.masks.loss_points is None:
        raise OutOfScope("the case has no masks, or no points")
    return case.masks


def _touched(place: Float[np.ndarray, "2"], height: int, width: int) -> np.ndarray:
    """Whether a pixel has a share in the value of a mask at a place, or could have one where it is rounded."""
    columns, rows = (
        np.abs(share * pixels - 0.5 - np.arange(pixels)) < 1.0 + 1e-3
        for share, pixels in zip(place, (width, height), strict=True)
    )
    return rows[:, None] & columns


def _all_alike(case: LossCase, logits: np.ndarray, objects: np.ndarray, points: np.ndarray) -> LossCase:
    """The case in which all predictions have one mask, and all targets another of its size: who is matched is all the
    same. Only the points of the targets differ."""
    given = _masks(case)
    return case.change(
        masks=Masks(
            pred_masks=np.tile(logits, (*case.pred_bboxes.shape[:3], 1, 1)),
            gt_masks=np.tile(objects, (case.targets, 1, 1)),
            sizes=(objects.shape,) * case.images,
            loss_points=points,
            cost_points=given.cost_points,
        )
    )


def _assert_of_pairs(
    port: PortUnderTest,
    case: LossCase,
    x: Float[np.ndarray, "targets points"],
    t: Float[np.ndarray, "targets points"],
) -> None:
    """Both losses of the main layer, from logits and masks of all targets, each of which has a query."""
    __tracebackhide__ = True
    p = 1.0 / (1.0 + np.exp(-x))
    entropy = np.mean(-t * np.log(p) - (1.0 - t) * np.log(1.0 - p), axis=1)
    dice = 1.0 - (2.0 * np.sum(p * t, axis=1) + 1.0) / (np.sum(p, axis=1) + np.sum(t, axis=1) + 1.0)
    expected, returned = port.expected(case), port.loss(case)
    for term, of_pairs in (("mask", entropy), ("dice", dice)):
        key = f"loss_{term}"
        returned.assert_number(key, weight(port, case, term) * float(np.sum(of_pairs)), expected[key])
