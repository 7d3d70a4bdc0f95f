"""BOX: boxes and IoU, seen through the GIoU loss of a single matched pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import map_boxes, snap
from detr_conformance.reference.base_spec import NO_AREA

ONE_PAIR = Request(
    layers=(1, 2),
    images=(1, 1),
    queries=(1, 1),
    classes=(1, 2),
    targets=(1, 1),
    denoising="never",
    special=(),
    real=False,
)
MAIN_AND_AUX = ("loss_giou", "loss_giou_aux")
GIOU = "Rezatofighi et al., GIoU, arXiv 1902.09630"

# Predictions made from the target (x, y, w, h): how far the centre moves in target sizes, and how the size scales.
ARRANGEMENTS = {
    "overlapping": (0.5, 1.0),
    "nested inside": (0.0, 0.5),
    "nested around": (0.0, 1.5),
    "touching nothing": (0.75, 0.25),
    "crossing": (0.25, 2.0),
    "reaching over the edge of the image": (0.25, 4.0),
}

# Width and height of a prediction in target sizes, and whether the target gets them too.
DEGENERATE = {
    "tiny": (2.0**-8, 2.0**-8, True),
    "tiny in a larger target": (2.0**-8, 2.0**-8, False),
    "no width": (0.0, 1.0, False),
    "no height, nor has the target": (1.0, 0.0, True),
    "a point on a point": (0.0, 0.0, True),
    "turned inside out": (-1.0, 1.0, False),
    "turned inside out twice": (-0.5, -0.5, False),
}


@rule("BOX-01", source=f"{GIOU}, algorithm 2", request=ONE_PAIR)
def giou_of_one_pair(port: PortUnderTest, case: LossCase) -> None:
    """For one query and one target, loss_giou is the gain times 1 - GIoU, with GIoU = inter / union -
    (hull - union) / hull, however the two boxes lie: overlapping, nested, crossing or apart."""
    for shift, scale in ARRANGEMENTS.values():
        arranged = _arranged(case, shift, scale)
        port.loss(arranged).assert_values(port.expected(arranged), MAIN_AND_AUX)


@rule(
    "BOX-02",
    source=f"{GIOU}, section 3: areas of intersection, union and hull do not know which box is which",
    request=ONE_PAIR,
)
def symmetry(port: PortUnderTest, case: LossCase) -> None:
    """The GIoU loss and the L1 loss of one pair stay the same when prediction and target change places."""
    first_layer = case.pred_bboxes[0, 0]
    same_layers = snap(case.change(pred_bboxes=np.tile(first_layer, (case.layers, 1, 1, 1))))
    swapped = same_layers.change(
        pred_bboxes=np.tile(same_layers.gt_bboxes, (case.layers, 1, 1, 1)),
        gt_bboxes=same_layers.pred_bboxes[0, 0].copy(),
    )
    expected, once, twice = port.expected(same_layers), port.loss(same_layers), port.loss(swapped)
    for key in ("loss_giou", "loss_bbox"):
        twice.assert_alike(once, key, expected[key])


@rule("BOX-03", source="areas and distances do not depend on the origin", request=ONE_PAIR)
def translation(port: PortUnderTest, case: LossCase) -> None:
    """Moving prediction and target together changes neither box loss."""
    here = snap(case)
    there = map_boxes(here, lambda boxes: boxes + np.array([0.125, -0.0625, 0.0, 0.0]))
    expected, elsewhere = port.expected(here), port.expected(there)
    once, moved = port.loss(here), port.loss(there)
    for key in ("loss_giou", "loss_bbox"):
        wider = max(expected[key], elsewhere[key], key=lambda loss: loss.magnitude)
        moved.assert_alike(once, key, wider)


@rule(
    "BOX-04",
    source=f"{GIOU}, section 3: the range of GIoU",
    request=replace(ONE_PAIR, near=False, special=("tiny", "border", "equal")),
)
def giou_range(port: PortUnderTest, case: LossCase) -> None:
    """The GIoU loss of one pair lies between 0 and twice the gain, over the profile's normaliser."""
    gain = weight(port, case, "giou")
    slack = float(port.budget(port.expected(case)["loss_giou"], case.dtype))
    value = float(port.loss(case).value("loss_giou"))
    assert -slack <= value <= 2.0 * gain + slack, f"loss_giou is {value:.9g}, expected 0 to {2.0 * gain:.9g}"


@rule(
    "BOX-05",
    source="Ultralytics bbox_iou: eps = 1e-7 is added to the union and to the hull",
    request=ONE_PAIR,
    convention=NO_AREA,
)
def boxes_without_area(port: PortUnderTest, case: LossCase) -> None:
    """Boxes that are tiny, without width or height, or turned inside out are evaluated by the same formula, where eps
    keeps the denominators from 0: the loss is finite and equal to the reference's."""
    for width, height, target_too in DEGENERATE.values():
        box = case.gt_bboxes * np.array([1.0, 1.0, width, height])
        predicted = case.change(pred_bboxes=np.tile(box, (case.layers, 1, 1, 1)))
        degenerate = predicted.change(gt_bboxes=box) if target_too else predicted
        port.loss(degenerate).assert_values(port.expected(degenerate), MAIN_AND_AUX)


def _arranged(case: LossCase, shift: float, scale: float) -> LossCase:
    """Every prediction made from the target; layers differ a little, so that none stands for another."""
    x, y, width, height = case.gt_bboxes[0]
    layers = 1.0 + np.arange(case.layers) / 8.0
    # Towards the middle of the image, so that the centre stays inside.
    right, down = (shift * size * (1.0 if centre <= 0.5 else -1.0) for centre, size in ((x, width), (y, height)))
    predictions = np.stack(
        [x + right * layers, y + down * layers / 2, width * scale * layers, height * scale / layers],
        axis=-1,
    )
    return snap(case.change(pred_bboxes=np.asarray(predictions, dtype=np.float32).astype(np.float64)[:, None, None]))
