"""LossCase: what it refuses, and what it keeps from being changed."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.properties.case import GeneratorConfig, LossCase, LossConfig, MatcherConfig

from .sample_cases import denoising, grid_of_boxes, grid_of_logits, indices, small_case

NAN_TARGET = np.full((3, 4), np.nan)

UNFIT = {
    "an unknown dtype": (lambda: {"dtype": "float8"}, "dtype is 'float8'"),
    "boxes of three numbers": (lambda: {"pred_bboxes": np.zeros((2, 3, 4, 3))}, "pred_bboxes has shape"),
    "logits of fewer queries": (lambda: {"pred_scores": grid_of_logits(2, 3, 3, 2)}, "pred_scores has shape"),
    "no query": (lambda: {"pred_bboxes": np.zeros((2, 3, 0, 4)), "pred_scores": np.zeros((2, 3, 0, 2))}, "pred_scores"),
    "no image": (lambda: {"pred_bboxes": np.zeros((2, 0, 4, 4)), "pred_scores": np.zeros((2, 0, 4, 2))}, "pred_scores"),
    "another number of classes": (lambda: {"config": LossConfig(nc=3)}, "config.nc is 3"),
    "no class": (lambda: {"config": LossConfig(nc=0)}, "config.nc is 0"),
    "single precision": (
        lambda: {"pred_scores": grid_of_logits(2, 3, 4, 2).astype(np.float32)},
        "pred_scores has dtype",
    ),
    "labels of 32 bits": (lambda: {"gt_cls": np.array([1, 0, 1], dtype=np.int32)}, "gt_cls has dtype int32"),
    "labels that are floats": (lambda: {"gt_cls": np.array([1.0, 0.0, 1.0])}, "gt_cls"),
    "a class too many": (lambda: {"gt_cls": np.array([1, 0, 2])}, "has 2 at [2]"),
    "a negative class": (lambda: {"gt_cls": np.array([-1, 0, 1])}, "has -1 at [0]"),
    "a target that is NaN": (lambda: {"gt_bboxes": NAN_TARGET}, "gt_bboxes"),
    "counts that sum to more": (lambda: {"gt_groups": (1, 1, 2)}, "gt_groups"),
    "counts of fewer images": (lambda: {"gt_groups": (1, 2)}, "gt_groups"),
    "a negative count": (lambda: {"gt_groups": (4, -1, 0)}, "gt_groups[1] is -1"),
    "a gain that is missing": (lambda: {"config": LossConfig(nc=2, loss_gain={"class": 1.0})}, "config.loss_gain"),
    "a gain without a meaning": (
        lambda: {"matcher": MatcherConfig(cost_gain={"class": 1.0, "bbox": 1.0, "giou": 1.0, "iou": 1.0})},
        "matcher.cost_gain has the unknown gain 'iou'",
    ),
    "a gain that is infinite": (
        lambda: {"config": LossConfig(nc=2, loss_gain={"class": np.inf, "bbox": 1.0, "giou": 1.0})},
        "config.loss_gain",
    ),
    "a negative gamma": (lambda: {"config": LossConfig(nc=2, gamma=-0.5)}, "config.gamma is -0.5"),
    "an alpha that is NaN": (lambda: {"matcher": MatcherConfig(alpha=np.nan)}, "matcher.alpha is nan"),
    "noise without a probability": (
        lambda: {"generator": GeneratorConfig(cls_noise_ratio=2.5)},
        "cls_noise_ratio is 2.5",
    ),
    "a negative seed": (lambda: {"generator": GeneratorConfig(seed=-1)}, "generator.seed is -1"),
    "a layer that does not exist": (
        lambda: {"config": LossConfig(nc=2, use_uni_match=True, uni_match_ind=1)},
        "config.uni_match_ind is 1, expected 0 to 0",
    ),
    "a number too fine for the dtype": (lambda: {"pred_bboxes": grid_of_boxes(2, 3, 4) + 1e-9}, "float32 cannot hold"),
    "a number too large for the dtype": (
        lambda: {"dtype": "float16", "pred_scores": np.full((2, 3, 4, 2), 1e5), "denoising": None},
        "float16 cannot hold",
    ),
    "denoising queries of other images": (
        lambda: {"denoising": denoising(bboxes=grid_of_boxes(1, 2, 9), scores=grid_of_logits(1, 2, 9, 2))},
        "denoising.scores has shape",
    ),
    "denoising queries of three numbers": (
        lambda: {"denoising": denoising(bboxes=np.zeros((1, 3, 9, 3)))},
        "denoising.bboxes",
    ),
    "slots of fewer images": (lambda: {"denoising": denoising(pos_idx=indices((0, 4), ()))}, "denoising.pos_idx has 2"),
    "a slot that does not exist": (
        lambda: {"denoising": denoising(pos_idx=indices((0, 9), (), (0, 1, 4, 5)))},
        "denoising.pos_idx[0]",
    ),
    "a slot twice": (
        lambda: {"denoising": denoising(pos_idx=indices((0, 0), (), (0, 1, 4, 5)))},
        "denoising.pos_idx[0] is [0, 0], expected every slot at most once",
    ),
    "a slot too few": (
        lambda: {"denoising": denoising(pos_idx=indices((0,), (), (0, 1, 4, 5)))},
        "denoising.pos_idx[0] has 1 slots",
    ),
    "another image's target": (
        lambda: {"denoising": denoising(gt_idx=indices((1,), (), (1, 2)))},
        "denoising.gt_idx[0]",
    ),
    "no group": (
        lambda: {"denoising": denoising(pos_idx=indices((), (), ()), num_group=0)},
        "denoising.num_group is 0",
    ),
}


@pytest.mark.usefixtures("shapes_unchecked")  # what a case itself says is asked here
@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused_by_its_name_and_value(name):
    changes, reason = UNFIT[name]
    with pytest.raises((KeyError, TypeError, ValueError)) as refusal:
        small_case(**changes())
    assert reason in str(refusal.value)


def every_array(case: LossCase) -> list[np.ndarray]:
    queries = case.denoising
    return [*case.float_arrays().values(), case.gt_cls, *queries.pos_idx, *queries.gt_idx]


def test_every_array_of_a_case_is_read_only():
    for array in every_array(small_case()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_predictions_may_be_anything_even_nan_and_infinity():
    logits = grid_of_logits(2, 3, 4, 2)
    logits[0, 0, 0] = [np.nan, -np.inf]
    assert np.isnan(small_case(pred_scores=logits).pred_scores[0, 0, 0, 0])


def test_a_change_leaves_the_case_itself_alone():
    case = small_case()
    other = case.change(use_vfl=True, gamma=2.0, gt_cls=np.array([0, 0, 0]))
    assert (other.config.classification, other.config.gamma, other.config.nc) == ("varifocal", 2.0, 2)
    assert (case.config.classification, case.config.gamma) == ("focal", 1.5)
    assert other.gt_cls.tolist() == [0, 0, 0]
    assert case.gt_cls.tolist() == [1, 0, 1]


def test_a_change_of_all_options_and_of_one_of_them_go_together():
    changed = small_case().change(config=LossConfig(nc=2, alpha=0.5), use_fl=False)
    assert (changed.config.alpha, changed.config.classification) == (0.5, "bce")


def test_targets_are_found_by_image():
    case = small_case()
    assert [case.of_image(image) for image in range(3)] == [slice(0, 1), slice(1, 1), slice(1, 3)]
    assert case.batch_idx.tolist() == [0, 2, 2]


def test_targets_are_never_in_half_precision():
    halves = {"pred_bboxes": np.full((1, 1, 1, 4), 0.5), "pred_scores": np.zeros((1, 1, 1, 2)), "denoising": None}
    case = small_case(
        **halves, gt_cls=np.array([0]), gt_bboxes=np.full((1, 4), 1 + 2**-20), gt_groups=(1,), dtype="float16"
    )
    assert case.target_dtype == "float32"
