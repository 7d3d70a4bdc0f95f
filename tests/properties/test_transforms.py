"""Each change of a case does what it says, judged by the reference and by doing it twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import loss_cases
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.transforms import (
    GRID,
    in_bfloat16,
    keep_first_group,
    map_boxes,
    mirror,
    repeat_first_group,
    repeat_main_layer,
    reverse_auxiliary_layers,
    reverse_queries,
    reverse_targets,
    rotate_classes,
    rotate_images,
    select_images,
    snap,
    transpose,
)
from detr_conformance.reference import ULTRALYTICS

from .sample_cases import small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # every example evaluates the reference several times

cases = loss_cases(Request())
denoised = loss_cases(Request(denoising="always", targets=(1, 4)))

TWICE_IS_NOTHING = {
    "reverse queries": reverse_queries,
    "reverse targets": reverse_targets,
    "mirror": mirror,
    "transpose": transpose,
    "reverse auxiliary layers": reverse_auxiliary_layers,
}
ALL_THE_WAY_ROUND = {
    "rotate images": (rotate_images, lambda case: case.images),
    "rotate classes": (rotate_classes, lambda case: case.config.nc),
}
CHANGES = TWICE_IS_NOTHING | {name: change for name, (change, _) in ALL_THE_WAY_ROUND.items()}
NEUTRAL = CHANGES | {
    "select all images": lambda case: select_images(case, list(range(case.images))),
    "snap what is snapped": snap,
}


def same(a: LossCase, b: LossCase) -> bool:
    """Equal in every array."""
    pairs = [(a.float_arrays()[name], b.float_arrays()[name]) for name in a.float_arrays()]
    pairs += [(a.gt_cls, b.gt_cls), (np.array(a.gt_groups), np.array(b.gt_groups))]
    if a.denoising is not None:
        pairs += [*zip(a.denoising.pos_idx, b.denoising.pos_idx, strict=True)]
        pairs += [*zip(a.denoising.gt_idx, b.denoising.gt_idx, strict=True)]
    return all(np.array_equal(left, right) for left, right in pairs)


def losses(case: LossCase) -> dict[str, float]:
    # Untested: cases in which rounding decides the matching; they have several legal losses.
    assume(oracle.matching_is_certain(case, ULTRALYTICS))
    return {key: float(loss) for key, loss in oracle.expected_losses(case, ULTRALYTICS).items()}


@pytest.mark.parametrize("name", TWICE_IS_NOTHING)
@settings(max_examples=30)
@given(case=cases)
def test_done_twice_it_leads_back(name, case):
    change = TWICE_IS_NOTHING[name]
    case = snap(case)
    assert same(change(change(case)), case)


@pytest.mark.parametrize("name", ALL_THE_WAY_ROUND)
@settings(max_examples=30)
@given(case=cases)
def test_done_once_for_each_it_leads_back(name, case):
    change, times = ALL_THE_WAY_ROUND[name]
    changed = case
    for _ in range(times(case)):
        changed = change(changed)
    assert same(changed, case)


@pytest.mark.parametrize("name", NEUTRAL)
@settings(max_examples=15)
@given(case=cases)
def test_the_reference_has_the_same_losses_before_and_after(name, case):
    case = snap(case)
    assert losses(NEUTRAL[name](case)) == pytest.approx(losses(case), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", CHANGES)
def test_something_is_changed(name):
    case = small_case(
        pred_bboxes=np.concatenate([small_case().pred_bboxes, small_case().pred_bboxes[:1, ::-1]]),
        pred_scores=np.concatenate([small_case().pred_scores, small_case().pred_scores[:1, ::-1]]),
    )
    assert not same(CHANGES[name](case), case)


def test_mirrored_boxes_have_the_same_sizes_and_the_opposite_edges():
    case = snap(small_case())
    left, right = (case.gt_bboxes[:, 0] + side * case.gt_bboxes[:, 2] / 2 for side in (-1, 1))
    mirrored = mirror(case).gt_bboxes
    assert np.array_equal(mirrored[:, 0] - mirrored[:, 2] / 2, 1 - right)
    assert np.array_equal(mirrored[:, 0] + mirrored[:, 2] / 2, 1 - left)
    assert np.array_equal(mirrored[:, [1, 3]], case.gt_bboxes[:, [1, 3]])


def test_a_transposed_box_has_width_and_height_in_each_others_place():
    case = small_case()
    assert np.array_equal(transpose(case).denoising.bboxes, case.denoising.bboxes[..., [1, 0, 3, 2]])


@settings(max_examples=100)
@given(case=cases)
def test_a_snapped_box_lies_on_the_grid_near_by_and_keeps_its_area(case):
    for name, boxes in snap(case).float_arrays().items():
        if name.endswith("bboxes"):
            before = case.float_arrays()[name]
            assert (boxes % GRID == 0).all()
            assert np.abs(boxes - before).max(initial=0.0) <= GRID
            assert np.array_equal(boxes[..., 2:] > 0, before[..., 2:] > 0)


def test_a_box_thinner_than_the_grid_is_not_snapped_to_nothing():
    thin = map_boxes(small_case(), lambda boxes: boxes * np.array([1, 1, 2.0**-12, 1]))
    assert (snap(thin).gt_bboxes[:, 2] == GRID).all()


def test_images_are_selected_with_their_targets_and_their_denoising_queries():
    case = select_images(small_case(), [2, 1])
    assert (case.gt_groups, case.gt_cls.tolist()) == ((2, 0), [0, 1])
    assert np.array_equal(case.pred_scores, small_case().pred_scores[:, [2, 1]])
    assert [each.tolist() for each in case.denoising.gt_idx] == [[0, 1], []]
    assert [each.tolist() for each in case.denoising.pos_idx] == [[0, 1, 4, 5], []]


def test_reversed_targets_take_their_denoising_queries_with_them():
    before, after = small_case(), reverse_targets(small_case())
    assert after.gt_cls.tolist() == [1, 1, 0]
    assert [each.tolist() for each in after.denoising.gt_idx] == [[0], [], [1, 2]]
    moved = [1, 0, 2, 3, 5, 4, 6, 7, 8]
    assert np.array_equal(after.denoising.scores[:, 2], before.denoising.scores[:, 2, moved])
    assert np.array_equal(after.denoising.scores[:, :2], before.denoising.scores[:, :2])


@settings(max_examples=50)
@given(case=denoised)
def test_a_reversed_target_still_has_its_own_denoising_queries(case):
    """What a denoising query predicts and what it has to predict, told apart by the numbers alone."""

    def answers(one: LossCase) -> list[list[tuple[float, ...]]]:
        queries = one.denoising
        return [
            sorted(
                (*one.gt_bboxes[target], *queries.bboxes[-1, image, slot])
                for slot, target in zip(slots, np.tile(own, queries.num_group), strict=True)
            )
            for image, (slots, own) in enumerate(zip(queries.pos_idx, queries.gt_idx, strict=True))
        ]

    assert answers(reverse_targets(case)) == answers(case)


def test_the_main_layer_can_stand_in_every_other():
    case = repeat_main_layer(small_case())
    assert np.array_equal(case.pred_bboxes[0], small_case().pred_bboxes[1])
    assert np.array_equal(case.pred_scores[0], case.pred_scores[1])


@settings(max_examples=15)
@given(case=denoised)
def test_equal_groups_have_the_losses_of_one(case):
    repeated = repeat_first_group(case)
    single = keep_first_group(repeated)
    assert (single.denoising.num_group, repeated.denoising.num_group) == (1, case.denoising.num_group)
    assert single.denoising.bboxes.shape[2] * case.denoising.num_group == repeated.denoising.bboxes.shape[2]
    assert losses(single) == pytest.approx(losses(repeated), rel=1e-9, abs=1e-9)


def test_a_case_of_doubles_is_rounded_to_bfloat16_and_its_targets_to_float32():
    third = small_case(dtype="float64", denoising=None)
    boxes, targets = third.pred_bboxes / 3.0, third.gt_bboxes / 3.0
    half = in_bfloat16(third.change(pred_bboxes=boxes, gt_bboxes=targets))
    assert half.dtype == "bfloat16"
    assert np.array_equal(half.pred_bboxes, rounded(boxes, "bfloat16"))
    assert np.array_equal(half.gt_bboxes, targets.astype(np.float32))
    assert not np.array_equal(half.gt_bboxes, rounded(targets, "bfloat16"))


def test_a_case_without_denoising_stays_without():
    case = small_case(denoising=None)
    assert all(change(case).denoising is None for change in NEUTRAL.values())


def test_a_subset_that_is_denoised_stays_one():
    whole = small_case()
    subset = (whole.denoising.gt_idx[0], whole.denoising.gt_idx[1], np.array([2]))
    case = whole.change(
        denoising=replace(whole.denoising, gt_idx=subset, pos_idx=(*whole.denoising.pos_idx[:2], np.array([0, 4])))
    )
    assert [each.tolist() for each in reverse_targets(case).denoising.gt_idx] == [[0], [], [1]]
