"""On stage everybody sees who is matched with whom, and how often a sum holds each layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import LossResult
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.staged import assert_layers_counted, marks, staged, staged_denoising
from detr_conformance.properties.target_score import readable, target_score
from detr_conformance.reference import ULTRALYTICS

from .sample_cases import grid_of_boxes, grid_of_logits, small_case

LAYERS = 4


def wide_case() -> LossCase:
    """Four layers, three images of which the middle one is empty."""
    return small_case(
        pred_bboxes=grid_of_boxes(LAYERS, 3, 4), pred_scores=grid_of_logits(LAYERS, 3, 4, 2), denoising=None
    )


def expected(case: LossCase) -> dict[str, float]:
    assert oracle.matching_is_certain(case, ULTRALYTICS)
    return {key: float(loss) for key, loss in oracle.expected_losses(case, ULTRALYTICS).items()}


@pytest.mark.parametrize("turned", [False, True])
def test_on_stage_every_layer_is_right_about_every_target(turned):
    losses = expected(staged(wide_case(), turned=turned))
    assert losses["loss_bbox"] == losses["loss_bbox_aux"] == 0.0


def test_a_layer_on_stage_is_as_far_off_as_it_was_moved():
    losses = expected(staged(wide_case(), [0.0, 2.0**-6, 0.0, 2.0**-5]))
    assert (losses["loss_bbox_aux"], losses["loss_bbox"]) == (5 * 2.0**-6, 5 * 2.0**-5)


def test_turned_layers_are_matched_by_other_queries():
    case = staged(wide_case(), turned=True)
    matched = [[queries.tolist() for queries, _ in layer] for layer in ReferencePort().match(case)]
    assert matched == [[[0], [], [0, 1]], [[1], [], [1, 2]], [[2], [], [2, 3]], [[3], [], [0, 3]]]


def test_denoising_slots_on_stage_are_as_far_off_as_they_were_moved():
    losses = expected(staged_denoising(small_case(), [2.0**-6]))
    assert (losses["loss_bbox_dn"], losses["loss_bbox_aux_dn"]) == (5 * 2.0**-6, 0.0)


class Holding(ReferencePort):
    """Its auxiliary loss holds each layer so often."""

    def __init__(self, times: list[float]) -> None:
        super().__init__(name="holding")
        self.times = times

    def loss(self, case: LossCase) -> LossResult:
        result = super().loss(case)
        total = 5.0 * float(np.dot(self.times, marks(LAYERS)))
        return replace(result, losses={**result.losses, "loss_bbox_aux": np.array(total)})


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1, 0, 1, 0], r"loss_bbox_aux counts the layers \[1, 0, 1\] times for layers 0, 1, …, expected \[1, 1, 1\]"),
        ([1, 2, 1, 0], r"counts the layers \[1, 2, 1\] times"),
        ([1, 1, 1, 1], r"counts the layers \[1, 1, 1, 1\] times for layers 0, 1, …, expected \[1, 1, 1, 0\]"),
        ([0.3, 0.3, 0.3, 0], "loss_bbox_aux: expected 0.0128"),
        ([np.nan, 1, 1, 0], "the port returned nan"),
        ([-1, 0, 0, 0], "the port returned -0.0006"),
    ],
)
def test_a_layer_that_is_left_out_or_counted_twice_is_named(times, message):
    port = PortUnderTest(Holding(times))
    case = staged(wide_case(), marks(LAYERS))
    with pytest.raises(AssertionError, match=message):
        assert_layers_counted(port.loss(case), "loss_bbox_aux", [0, 1, 2], 5.0, port.expected(case))


def test_every_layer_counted_once_is_right():
    port = PortUnderTest(Holding([1, 1, 1, 0]))
    case = staged(wide_case(), marks(LAYERS))
    assert_layers_counted(port.loss(case), "loss_bbox_aux", [0, 1, 2], 5.0, port.expected(case))


@pytest.mark.parametrize("options", [{"use_fl": True, "use_vfl": True}, {"use_fl": False}])
def test_the_target_score_can_be_read_off_the_classification_loss(options):
    port = PortUnderTest(ReferencePort())
    case = readable(
        port,
        LossCase(
            config=replace(small_case().config, nc=1, **options),
            pred_bboxes=np.array([0.25, 0.25, 0.25, 0.5]).reshape(1, 1, 1, 4),
            pred_scores=np.zeros((1, 1, 1, 1)),
            gt_cls=np.array([0]),
            gt_bboxes=np.array([[0.25, 0.25, 0.5, 0.5]]),
            gt_groups=(1,),
        ),
    )
    score, reach = target_score(port.loss(case))
    assert score == pytest.approx(0.5, abs=1e-6)
    assert 0 < reach < 1e-3
