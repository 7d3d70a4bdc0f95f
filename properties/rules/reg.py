"""REG: the two box losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import counts_layers, matches_alike
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.staged import staged
from detr_conformance.properties.transforms import snap

WITH_TARGETS = Request(targets=(1, 4))
L1_KEYS = ("loss_bbox", "loss_bbox_aux", "loss_bbox_dn", "loss_bbox_aux_dn")
GIOU_KEYS = ("loss_giou", "loss_giou_aux", "loss_giou_dn", "loss_giou_aux_dn")


@rule("REG-01", source="Carion et al., DETR, arXiv 2005.12872, appendix A.2", request=WITH_TARGETS)
def l1_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_bbox is the gain times the sum of the absolute differences of the four numbers of every matched box, centre
    form against centre form, divided by the profile's normaliser."""
    port.loss(case).assert_values(port.expected(case), L1_KEYS)


@rule("REG-02", source="Rezatofighi et al., GIoU, arXiv 1902.09630, algorithm 2", request=WITH_TARGETS)
def giou_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_giou is the gain times the sum of 1 - GIoU over the matched boxes, divided by the profile's normaliser."""
    port.loss(case).assert_values(port.expected(case), GIOU_KEYS)


@rule(
    "REG-03",
    source="Ultralytics DETRLoss: zeros without a match",
    request=Request(all_empty=True, denoising="never"),
)
def no_targets_no_box_loss(port: PortUnderTest, case: LossCase) -> None:
    """In a batch without any target both box losses are exactly 0."""
    returned = port.loss(case)
    for key in (*L1_KEYS, *GIOU_KEYS):
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 without a target, the port returned {value:.9g}"


@rule(
    "REG-04",
    source="Ultralytics DETRLoss divides by the matched pairs; Carion et al., DETR, section 3.1, by the targets",
    request=replace(WITH_TARGETS, queries=(1, 2), targets=(3, 5), denoising="never", real=False),
)
def more_targets_than_queries(port: PortUnderTest, case: LossCase) -> None:
    """With fewer queries than targets the loss is computed over the pairs there are, and divided by the profile's
    normaliser: by the base profile the number of those pairs, not of the targets."""
    port.loss(case).assert_values(port.expected(case))


@rule(
    "REG-05",
    source="Carion et al., DETR, arXiv 2005.12872, appendix A.2: weighted sum",
    request=WITH_TARGETS,
    varies={"loss_gain"},
    among=lambda spec: matches_alike(spec, "loss_gain"),
)
def box_gains(port: PortUnderTest, case: LossCase) -> None:
    """Where the profile's matcher does not follow the gains of the loss, doubling the bbox gain doubles loss_bbox
    alone, and doubling the giou gain doubles loss_giou alone."""
    gain = dict(case.config.loss_gain)
    expected, once = port.expected(case), port.loss(case)
    for term in ("bbox", "giou"):
        more = port.loss(case.change(loss_gain=gain | {term: 2.0 * gain[term]}))
        for key in expected:
            more.assert_alike(once, key, expected[key], factor=2.0 if f"_{term}" in key else 1.0)


@rule(
    "REG-06",
    source="Carion et al., DETR, arXiv 2005.12872, appendix A.2: L1 on the normalised centre and size",
    request=replace(
        WITH_TARGETS, images=(1, 1), queries=(1, 1), targets=(1, 1), denoising="never", special=(), real=False
    ),
)
def l1_loss_of_one_pair(port: PortUnderTest, case: LossCase) -> None:
    """For one query and one target loss_bbox is the gain times |x - x'| + |y - y'| + |w - w'| + |h - h'|, each counted
    once, whatever its sign, none scaled by the size of the box, divided by the profile's normaliser."""
    target = snap(case).gt_bboxes
    offsets = np.array([2.0**-6, -(2.0**-5), 2.0**-7, 2.0**-4])
    for offset in (offsets, -offsets * np.array([1.0, 1.0, 0.0, -1.0])):
        pair = case.change(gt_bboxes=target, pred_bboxes=np.tile(target + offset, (case.layers, 1, 1, 1)))
        distance, expected = float(np.abs(offset).sum()), port.expected(pair)
        port.loss(pair).assert_number("loss_bbox", weight(port, pair, "bbox") * distance, expected["loss_bbox"])


@rule(
    "REG-07",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects in the batch",
    request=replace(WITH_TARGETS, queries=(3, 6), targets=(1, 3), denoising="never", special=(), real=False),
)
def equal_pairs_count_once(port: PortUnderTest, case: LossCase) -> None:
    """Where all predictions are equally far off, loss_bbox is the gain times that distance, times the pairs over the
    profile's normaliser, which is 1 by most; the auxiliary loss is that of as many layers."""
    distance = 2.0**-6
    equal = staged(case, [distance] * case.layers)
    expected, returned = port.expected(equal), port.loss(equal)
    of_layer, others = weight(port, equal, "bbox") * equal.targets * distance, counts_layers(port.spec, case.layers - 1)
    returned.assert_number("loss_bbox", of_layer, expected["loss_bbox"])
    returned.assert_number("loss_bbox_aux", others * of_layer, expected["loss_bbox_aux"])
