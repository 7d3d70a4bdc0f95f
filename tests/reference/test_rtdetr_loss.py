"""RTDETRDetectionLoss: the DETR loss once more for the denoising queries, and who those answer for."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from detr_conformance.reference import DETRLoss, RTDETRDetectionLoss

KEYS = [f"loss_{name}{aux}" for aux in ("", "_aux") for name in ("class", "bbox", "giou")]

classifications = pytest.mark.parametrize("options", [{}, {"use_vfl": True}, {"use_fl": False}])
pair_indices = RTDETRDetectionLoss.get_dn_match_indices


def values(losses) -> dict[str, float]:
    """Losses as plain numbers."""
    return {key: float(loss) for key, loss in losses.items()}


def lists(matching) -> list[tuple[list[int], list[int]]]:
    """A matching as plain lists."""
    return [(slots.tolist(), targets.tolist()) for slots, targets in matching]


def rows(*parts) -> list[np.ndarray]:
    """One row of indices for each image."""
    return [np.array(part, dtype=np.int64) for part in parts]


def test_the_constructor_is_that_of_detr_loss():
    assert inspect.signature(RTDETRDetectionLoss) == inspect.signature(DETRLoss)


@classifications
def test_without_dn_meta_every_key_comes_once_more_with_dn_last_and_is_zero(draw_step, options):
    step = draw_step()
    losses = RTDETRDetectionLoss(nc=4, **options)(*step.arguments)
    assert list(losses) == [*KEYS, *(f"{key}_dn" for key in KEYS)]
    assert {key: value for key, value in values(losses).items() if "_dn" not in key} == values(
        DETRLoss(nc=4, **options)(*step.plain)
    )
    assert all(float(losses[f"{key}_dn"]) == 0 and losses[f"{key}_dn"].value.shape == () for key in KEYS)


def test_without_dn_meta_denoising_predictions_are_not_read(draw_step):
    step, loss = draw_step(groups=2), RTDETRDetectionLoss(nc=4)
    without = loss(*step.arguments[:2], step.dn_bboxes, step.dn_scores)
    assert values(without) == values(loss(*step.arguments[:2]))


def test_without_aux_loss_there_are_six_keys(draw_step):
    losses = RTDETRDetectionLoss(nc=4, aux_loss=False)(*draw_step(groups=1).arguments)
    assert list(losses) == [*KEYS[:3], *(f"{key}_dn" for key in KEYS[:3])]


@classifications
@pytest.mark.parametrize("gt_groups", [(2, 0, 3), (0, 1), (2, 2)])
def test_denoising_losses_are_detr_losses_under_the_given_pairs_in_every_layer(draw_step, options, gt_groups):
    step, one = draw_step(groups=2, gt_groups=gt_groups), DETRLoss(nc=4, **options)
    losses = values(RTDETRDetectionLoss(nc=4, **options)(*step.arguments))
    matching = pair_indices(step.dn_meta["dn_pos_idx"], 2, list(gt_groups))
    expected = one(step.dn_bboxes, step.dn_scores, step.batch, "_dn", matching)
    assert losses == values(one(*step.plain)) | values(expected)


def test_the_normaliser_of_denoising_is_the_denoised_targets_times_the_groups(draw_step):
    step = draw_step(layers=1, groups=3)
    slots, targets = (
        np.concatenate(each)
        for each in zip(*pair_indices(step.dn_meta["dn_pos_idx"], 3, step.batch["gt_groups"]), strict=True)
    )
    images = np.repeat([0, 2], [2 * 3, 3 * 3])
    distance = np.abs(step.dn_bboxes[0, images, slots] - step.batch["bboxes"][targets]).sum()
    losses = RTDETRDetectionLoss(nc=4)(*step.arguments)
    assert float(losses["loss_bbox_dn"]) == pytest.approx(5 * distance / (5 * 3))


def test_ordinary_losses_do_not_depend_on_denoising_queries(draw_step):
    step, loss = draw_step(groups=2), RTDETRDetectionLoss(nc=4)
    with_denoising, without = values(loss(*step.arguments)), values(loss(*step.arguments[:2]))
    assert all(with_denoising[key] == without[key] for key in KEYS)


def test_uni_match_does_not_touch_denoising_queries(draw_step):
    step = draw_step(groups=2)
    plain, shared = (RTDETRDetectionLoss(nc=4, use_uni_match=each)(*step.arguments) for each in (False, True))
    assert all(float(plain[f"{key}_dn"]) == float(shared[f"{key}_dn"]) for key in KEYS)
    assert float(plain["loss_bbox_aux"]) != float(shared["loss_bbox_aux"])


def test_denoising_queries_may_come_from_another_number_of_layers(draw_step):
    step, other = draw_step(layers=3, groups=2), draw_step(layers=2, groups=2)
    losses = RTDETRDetectionLoss(nc=4)(*step.arguments[:2], other.dn_bboxes, other.dn_scores, step.dn_meta)
    assert losses["loss_bbox_aux_dn"].gradients["dn_bboxes"].shape == other.dn_bboxes.shape


def test_gradients_go_by_the_names_of_the_arguments(draw_step):
    losses = RTDETRDetectionLoss(nc=4)(*draw_step(groups=2).arguments)
    assert set(losses["loss_class"].gradients) == {"pred_scores"}
    assert set(losses["loss_giou_aux"].gradients) == {"pred_bboxes"}
    assert set(losses["loss_class_aux_dn"].gradients) == {"dn_scores"}
    assert set(losses["loss_bbox_dn"].gradients) == {"dn_bboxes"}


@pytest.mark.parametrize("with_targets", [True, False])
def test_both_forms_of_indices_give_the_same_losses(draw_step, with_targets):
    step, loss = draw_step(groups=2), RTDETRDetectionLoss(nc=4)
    meta = {key: value for key, value in step.dn_meta.items() if with_targets or key != "dn_gt_idx"}
    assert values(loss(*step.arguments[:4], meta)) == values(loss(*step.arguments))


def test_a_subset_of_targets_is_denoised_by_its_indices(draw_step):
    step = draw_step(layers=1, gt_groups=(3, 2), groups=1)
    meta = {"dn_pos_idx": rows([0], [0]), "dn_gt_idx": rows([2], [4]), "dn_num_group": 1}
    distance = sum(np.abs(step.dn_bboxes[0, image, 0] - step.batch["bboxes"][[2, 4][image]]).sum() for image in (0, 1))
    losses = RTDETRDetectionLoss(nc=4)(*step.arguments[:4], meta)
    assert float(losses["loss_bbox_dn"]) == pytest.approx(5 * distance / 2)


def test_calling_twice_gives_the_same_and_leaves_the_arguments_alone(draw_step):
    step, fresh, loss = draw_step(groups=2), draw_step(groups=2), RTDETRDetectionLoss(nc=4)
    assert values(loss(*step.arguments)) == values(loss(*step.arguments))
    assert (step.dn_bboxes == fresh.dn_bboxes).all()
    assert (step.dn_scores == fresh.dn_scores).all()
    assert lists(zip(*[step.dn_meta[key] for key in ("dn_pos_idx", "dn_gt_idx")], strict=True)) == lists(
        zip(*[fresh.dn_meta[key] for key in ("dn_pos_idx", "dn_gt_idx")], strict=True)
    )


def test_a_nan_denoising_box_in_a_negative_slot_leaves_the_losses_finite(draw_step):
    step = draw_step(gt_groups=(2, 3), groups=2)
    step.dn_bboxes[:, :, 3:6] = math.nan
    assert all(math.isfinite(value) for value in values(RTDETRDetectionLoss(nc=4)(*step.arguments)).values())


# get_dn_match_indices


def test_indices_are_the_slots_and_the_targets_with_their_offset_once_for_every_group():
    matching = pair_indices(rows([0, 1, 6, 7], [0, 1, 2, 6, 7, 8]), 2, [2, 3])
    assert lists(matching) == [([0, 1, 6, 7], [0, 1, 0, 1]), ([0, 1, 2, 6, 7, 8], [2, 3, 4, 2, 3, 4])]


def test_an_image_without_targets_gives_two_empty_int64_arrays():
    matching = pair_indices(rows([], [0, 2], []), 2, [0, 1, 0])
    assert lists(matching) == [([], []), ([0, 2], [0, 0]), ([], [])]
    assert {side.dtype for pair in matching for side in pair} == {np.dtype(np.int64)}


def test_the_newer_form_repeats_the_targets_that_one_group_reconstructs():
    matching = pair_indices(rows([0, 1, 4, 5], [], [0, 4]), 2, [3, 0, 4], rows([0, 2], [], [5]))
    assert lists(matching) == [([0, 1, 4, 5], [0, 2, 0, 2]), ([], []), ([0, 4], [5, 5])]


@pytest.mark.parametrize("dn_gt_idx", [None, rows([0, 1], [2])])
def test_lengths_that_do_not_fit_are_both_named(dn_gt_idx):
    with pytest.raises(
        ValueError, match=r"dn_pos_idx\[1\] has 3 slots, expected 2: 1 targets in each of dn_num_group = 2"
    ):
        pair_indices(rows([0, 1, 4, 5], [0, 4, 8]), 2, [2, 1], dn_gt_idx)
