"""What is added to a case, or taken away, has the effect on the reference that the rules expect of a port."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.properties import oracle
from detr_conformance.properties.additions import (
    HOPELESS_BOX,
    add_hopeless_queries,
    append_empty_image,
    empty_images,
    keep_first_and_main_layer,
    repeat_first_layer,
    repeat_queries,
)
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.transforms import as_denoising, select_images
from detr_conformance.reference import ULTRALYTICS

from .sample_cases import small_case


def losses(case: LossCase) -> dict[str, float]:
    return {key: float(loss) for key, loss in oracle.expected_losses(case, ULTRALYTICS).items()}


def test_an_emptied_image_loses_its_targets_and_no_other_does():
    case = empty_images(small_case(), {0})
    assert (case.gt_groups, case.gt_cls.tolist(), case.denoising) == ((0, 0, 2), [0, 1], None)
    assert np.array_equal(case.gt_bboxes, small_case().gt_bboxes[1:])


def test_an_appended_image_is_the_first_without_its_targets():
    case = append_empty_image(small_case())
    assert case.gt_groups == (1, 0, 2, 0)
    assert np.array_equal(case.pred_scores[:, 3], case.pred_scores[:, 0])
    assert losses(case)["loss_bbox"] == losses(small_case())["loss_bbox"]


def test_every_query_has_a_copy():
    case = repeat_queries(small_case())
    assert case.queries == 8
    assert np.array_equal(case.pred_bboxes[:, :, :4], case.pred_bboxes[:, :, 4:])


def test_a_repeated_layer_counts_twice_in_the_auxiliary_losses():
    before, after = losses(small_case()), losses(repeat_first_layer(small_case()))
    assert after["loss_giou_aux"] == pytest.approx(2 * before["loss_giou_aux"])
    assert after["loss_class"] == before["loss_class"]


def test_of_many_layers_the_first_and_the_main_one_are_kept():
    case = keep_first_and_main_layer(repeat_first_layer(small_case()))
    assert np.array_equal(case.pred_scores, small_case().pred_scores)


def test_hopeless_queries_are_matched_with_nothing_and_cost_nothing():
    case = add_hopeless_queries(small_case(), 3)
    assert case.queries == 7
    assert (case.pred_bboxes[:, :, :3] == HOPELESS_BOX).all()
    assert {key: losses(small_case(denoising=None))[key] for key in losses(case)} == pytest.approx(losses(case))


def test_ordinary_queries_as_denoising_ones_have_the_same_losses():
    case = small_case()
    matched = [np.array([2]), np.zeros(0, dtype=np.int64), np.array([3, 0])]
    both = as_denoising(case, matched)
    assert np.array_equal(both.pred_bboxes[:, 2, :2], case.pred_bboxes[:, 2, [3, 0]])
    assert np.array_equal(both.denoising.scores, both.pred_scores[-1:])
    assert [each.tolist() for each in both.denoising.pos_idx] == [[0], [], [0, 1]]
    assert [each.tolist() for each in both.denoising.gt_idx] == [[0], [], [1, 2]]


def test_queries_beyond_the_slots_of_a_group_are_left_out():
    case = select_images(small_case(), [0])
    both = as_denoising(case, [np.array([1])])
    assert both.queries == both.denoising.bboxes.shape[2] == 2
    assert np.array_equal(both.pred_scores, case.pred_scores[:, :, [1, 0]])
