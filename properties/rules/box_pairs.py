"""BOX: pairs of boxes whose overlap is known without the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import counts_layers, divides_by_counts, measures_giou
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.target_score import readable, target_score
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.transforms import GRID, map_boxes, snap

ONE_PAIR = Request(
    layers=(1, 2),
    images=(1, 1),
    queries=(1, 1),
    classes=(1, 1),
    targets=(1, 1),
    denoising="never",
    special=(),
    real=False,
)
GIOU = "Rezatofighi et al., GIoU, arXiv 1902.09630"
TINY = (2.0**-4, 2.0**-6, 2.0**-9)


@rule("BOX-06", source=f"{GIOU}, section 3: invariance to scale", request=ONE_PAIR)
def joint_scale(port: PortUnderTest, case: LossCase) -> None:
    """Halving all four numbers of prediction and target halves the L1 loss and leaves the GIoU loss as it is, but for
    the share of eps in the areas, where the profile has one."""
    large = snap(case)
    small = map_boxes(large, lambda boxes: boxes / 2)
    expected, halved = port.expected(large), port.expected(small)
    once, again = port.loss(large), port.loss(small)
    again.assert_alike(once, "loss_bbox", expected["loss_bbox"], factor=0.5)
    of_eps = float(halved["loss_giou"]) - float(expected["loss_giou"])
    wider = max(expected["loss_giou"], halved["loss_giou"], key=lambda loss: loss.magnitude)
    again.assert_alike(once, "loss_giou", wider, more=of_eps)


@rule("BOX-07", source=f"{GIOU}, section 3: identity", request=ONE_PAIR)
def perfect_prediction(port: PortUnderTest, case: LossCase) -> None:
    """A prediction equal to its target has loss_bbox 0, and a loss_giou of the gain times 1 - area / (area + eps): 0
    where the profile adds no eps."""
    area = float(np.prod(case.gt_bboxes[0, 2:]))
    _assert_pair(port, case, case.gt_bboxes[0], _giou(port, area, area, area))


@rule(
    "BOX-08",
    source=f"{GIOU}, section 3: the hull of nested boxes is the outer one",
    request=ONE_PAIR,
    among=measures_giou,
)
def nested_boxes(port: PortUnderTest, case: LossCase) -> None:
    """Of two boxes one inside the other GIoU is IoU, the ratio of their areas, whichever is the prediction."""
    outer = _on_grid(case.gt_bboxes[0])
    inner = outer * np.array([1.0, 1.0, 0.5, 0.25]) + np.array([outer[2] / 8, -outer[3] / 4, 0.0, 0.0])
    small, large = (float(np.prod(box[2:])) for box in (inner, outer))
    overlap = _giou(port, small, large, large)
    _assert_pair(port, case.change(gt_bboxes=outer[None]), inner, overlap)
    _assert_pair(port, case.change(gt_bboxes=inner[None]), outer, overlap)


@rule("BOX-09", source=f"{GIOU}, section 3: GIoU of boxes that do not meet", request=ONE_PAIR, among=measures_giou)
def boxes_apart(port: PortUnderTest, case: LossCase) -> None:
    """Of two boxes that do not meet GIoU is minus the empty share of their hull, so that the loss is above the gain,
    and grows the further they are apart."""
    target = _on_grid(case.gt_bboxes[0] * np.array([1.0, 1.0, 0.25, 0.25]))
    width, height = target[2:]
    inwards = np.where(target[:2] <= 0.5, 1.0, -1.0)
    area = float(width * height)
    for distance in (1.5, 2.0):
        moved = target + np.array([*(distance * inwards * target[2:]), 0.0, 0.0])
        giou = _giou(port, 0.0, 2.0 * area, (1.0 + distance) ** 2 * area)
        _assert_pair(port, case.change(gt_bboxes=target[None]), moved, giou)


@rule(
    "BOX-10",
    source=f"{GIOU}, section 3: GIoU is a lower bound of IoU",
    request=replace(ONE_PAIR, readable_score=True),
    among=lambda spec: divides_by_counts(spec) and measures_giou(spec),
)
def giou_is_at_most_iou(port: PortUnderTest, case: LossCase) -> None:
    """GIoU, as loss_giou shows it, is at most the IoU that serves as target score in the classification loss, and equal
    to it where one box lies within the other."""
    target = _on_grid(case.gt_bboxes[0])
    x, y, width, height = target
    within = np.array([x, y, width / 2, height / 2])
    for box in (within, within + np.array([width / 2, 0.0, width / 2, 0.0]), np.array([x, y, 2 * width, height / 2])):
        arranged = readable(port, _predicting(case.change(gt_bboxes=target[None]), box))
        returned, gain = port.loss(arranged), weight(port, arranged, "giou")
        iou, reach = target_score(returned)
        giou = 1.0 - float(returned.value("loss_giou")) / gain
        reach += 2.0 * port.budget(port.expected(arranged)["loss_giou"], case.dtype) / gain
        assert giou <= iou + reach, f"GIoU is {giou:.9g}, above the IoU of {iou:.9g} by more than {reach:.3g}"
        assert box is not within or giou >= iou - reach, (
            f"GIoU of a box within its target is {giou:.9g}, expected the IoU of {iou:.9g}, up to {reach:.3g}"
        )


@rule(
    "BOX-11",
    source="Ultralytics bbox_iou: eps = 1e-7 is added to the union and to the hull; other profiles add nothing",
    request=ONE_PAIR,
    among=measures_giou,
)
def tiny_boxes(port: PortUnderTest, case: LossCase) -> None:
    """Two equal boxes half over each other have a GIoU of a third, but for the profile's eps: area / (3 area + 2 eps)
    by the base profile, also where they are as small as a pixel and eps makes up much of it."""
    for side in TINY:
        # Near the origin, where float32 has digits to spare for the edges of so small a box.
        x, y = side * (1.0 + np.round(4.0 * case.gt_bboxes[0, :2]))
        target, area = np.array([x, y, side, side]), side * side
        moved = target + np.array([side / 2, 0.0, 0.0, 0.0])
        overlap = _giou(port, area / 2, 1.5 * area, 1.5 * area)
        _assert_pair(port, case.change(gt_bboxes=target[None]), moved, overlap)


def _giou(port: PortUnderTest, inter: float, union: float, hull: float) -> float:
    """GIoU of known areas, with the profile's eps where it has one."""
    union, hull = float(port.spec.guard(union)), float(port.spec.guard(hull))
    return inter / union - (hull - union) / hull


def _on_grid(box: np.ndarray) -> np.ndarray:
    """The box with a centre on the grid and a size of eight or more steps of it: its halves and quarters are exact."""
    centre, size = np.round(box[:2] / GRID) * GRID, np.maximum(np.round(box[2:] / (8 * GRID)), 1) * 8 * GRID
    return np.concatenate([centre, size])


def _predicting(case: LossCase, box: np.ndarray) -> LossCase:
    """The case of one query with this prediction in every layer."""
    return case.change(pred_bboxes=rounded(np.tile(box, (case.layers, 1, 1, 1)), case.dtype))


def _assert_pair(port: PortUnderTest, case: LossCase, box: np.ndarray, giou: float) -> None:
    """Both box losses of a prediction with known GIoU, in the main layer and in all others together."""
    __tracebackhide__ = True
    pair = _predicting(case, box)
    distance = float(np.abs(pair.pred_bboxes[-1, 0, 0] - pair.gt_bboxes[0]).sum())
    expected, returned = port.expected(pair), port.loss(pair)
    for suffix, layers in (("", 1.0), ("_aux", counts_layers(port.spec, case.layers - 1))):
        for term, of_pair in (("bbox", distance), ("giou", 1.0 - giou)):
            key = f"loss_{term}{suffix}"
            returned.assert_number(key, layers * weight(port, pair, term) * of_pair, expected[key])
