"""The matcher: its cost term by term, its quirks, and whose targets its indices mean."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from detr_conformance.reference import ULTRALYTICS, HungarianMatcher, MatcherConfig
from detr_conformance.reference.boxes import bbox_iou
from detr_conformance.reference.matcher import focal_class_cost, softmax_class_cost
from detr_conformance.reference.rounding import plain

GOOD, WRONG = (0.5, 0.5, 0.2, 0.2), (0.1, 0.1, 0.1, 0.1)


def matcher(cls=0.0, bbox=0.0, giou=0.0, **options) -> HungarianMatcher:
    """A matcher with these gains; terms that are not named do not count."""
    return HungarianMatcher({"class": cls, "bbox": bbox, "giou": giou}, **options)


def costs(matcher, step) -> np.ndarray:
    """What every query of the first image would pay for each of its targets."""
    own = slice(0, step.batch["gt_groups"][0])
    layer = step.pred_bboxes[0, 0], step.pred_scores[0, 0]
    config = MatcherConfig(matcher.cost_gain, matcher.use_fl, matcher.alpha, matcher.gamma)
    return plain(ULTRALYTICS.matcher.cost(config, *layer, step.batch["bboxes"][own], step.batch["cls"][own]))


def one_image(boxes, logits, targets, labels):
    """Arguments of a call with a single image."""
    boxes, targets = (np.array(each, dtype=float).reshape(-1, 4) for each in (boxes, targets))
    return boxes[None], np.array(logits, dtype=float)[None], targets, np.array(labels), [len(labels)]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 1.0), (0.4, 0.0)])
def test_the_focal_class_cost_is_the_formula_at_the_logit_of_the_targets_class(draw_step, alpha, gamma):
    step = draw_step(gt_groups=(3,))
    for (query, target), cost in np.ndenumerate(costs(matcher(cls=1.0, alpha=alpha, gamma=gamma), step)):
        p = 1 / (1 + math.exp(-step.pred_scores[0, 0, query, step.batch["cls"][target]]))
        positive = alpha * (1 - p) ** gamma * -math.log(p + 1e-8)
        negative = (1 - alpha) * p**gamma * -math.log(1 - p + 1e-8)
        assert cost == pytest.approx(positive - negative, rel=1e-12)


@pytest.mark.parametrize(("logit", "cost"), [(100.0, 0.75 * math.log(1e-8)), (-100.0, -0.25 * math.log(1e-8))])
def test_the_class_cost_of_a_saturated_logit_is_kept_finite_by_its_1e8th(logit, cost):
    focal = focal_class_cost(np.array([[logit]]), np.array([0]), MatcherConfig())
    assert plain(focal).item() == pytest.approx(cost, rel=1e-7)


def test_without_use_fl_the_class_cost_is_minus_the_softmax_probability(draw_step):
    step = draw_step(gt_groups=(3,))
    for (query, target), cost in np.ndenumerate(costs(matcher(cls=1.0, use_fl=False), step)):
        weights = [math.exp(logit) for logit in step.pred_scores[0, 0, query]]
        assert cost == pytest.approx(-weights[step.batch["cls"][target]] / sum(weights), rel=1e-12)


def test_the_softmax_of_large_logits_does_not_overflow():
    probabilities = softmax_class_cost(np.array([[1000.0, 999.0]]), np.array([0, 1]), MatcherConfig())
    assert plain(probabilities)[0].tolist() == pytest.approx([-1 / (1 + math.exp(-1)), -1 / (1 + math.e)])


def test_the_box_cost_is_the_l1_distance_of_the_four_numbers(draw_step):
    step = draw_step(gt_groups=(3,))
    pred, target = step.pred_bboxes[0, 0], step.batch["bboxes"]
    expected = [[sum(abs(a - b) for a, b in zip(p, t, strict=True)) for t in target] for p in pred]
    assert costs(matcher(bbox=1.0), step) == pytest.approx(np.array(expected), rel=1e-12)


def test_the_giou_cost_is_one_minus_giou(draw_step):
    step = draw_step(gt_groups=(3,))
    giou = bbox_iou(step.pred_bboxes[0, 0][:, None], step.batch["bboxes"][None], GIoU=True)[..., 0]
    assert costs(matcher(giou=1.0), step) == pytest.approx(1 - giou, rel=1e-12)


def test_the_cost_is_the_sum_of_the_three_terms_each_times_its_gain(draw_step):
    step = draw_step(gt_groups=(3,))
    terms = [costs(matcher(**{name: 1.0}), step) for name in ("cls", "bbox", "giou")]
    expected = 0.5 * terms[0] + 3.0 * terms[1] + 1.25 * terms[2]
    assert costs(matcher(cls=0.5, bbox=3.0, giou=1.25), step) == pytest.approx(expected, rel=1e-12)


def test_the_default_gains_are_class_1_bbox_5_giou_2_and_the_focal_cost(draw_step):
    step = draw_step(gt_groups=(3,))
    expected = costs(matcher(cls=1.0, bbox=5.0, giou=2.0, use_fl=True, alpha=0.25, gamma=2.0), step)
    assert (costs(HungarianMatcher(), step) == expected).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("coordinate", range(4))
def test_a_cost_that_is_not_finite_becomes_zero(draw_step, value, coordinate):
    step = draw_step(gt_groups=(3,))
    before = costs(HungarianMatcher(), step)
    step.pred_bboxes[0, 0, 1, coordinate] = value
    after = costs(HungarianMatcher(), step)
    assert (after[1] == 0.0).all()
    assert (before[1] != 0.0).all()
    assert (np.delete(after, 1, axis=0) == np.delete(before, 1, axis=0)).all()


@pytest.mark.parametrize("use_fl", [True, False])
def test_a_nan_logit_costs_zero_where_its_class_is_asked_for(draw_step, use_fl):
    step = draw_step(gt_groups=(3,))
    step.pred_scores[0, 0, 2] = math.nan
    assert (costs(matcher(cls=1.0, use_fl=use_fl), step)[2] == 0.0).all()


def test_a_nan_prediction_beats_a_mediocre_query_but_not_a_confident_good_one():
    broken = [math.nan] * 4
    mediocre = one_image([WRONG, broken], [[0.0], [0.0]], [GOOD], [0])
    confident = one_image([GOOD, broken], [[5.0], [0.0]], [GOOD], [0])
    assert HungarianMatcher()(*mediocre)[0][0].tolist() == [1]
    assert HungarianMatcher()(*confident)[0][0].tolist() == [0]


@pytest.mark.parametrize("groups", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 4), (4, 0, 0), (1, 1, 1)])
def test_target_indices_count_through_the_whole_batch_wherever_images_are_empty(draw_step, groups):
    step = draw_step(gt_groups=groups)
    boxes, labels, counts = step.targets
    for image, matching in enumerate(HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets)):
        first, own = sum(counts[:image]), slice(sum(counts[:image]), sum(counts[: image + 1]))
        layer = step.pred_bboxes[0, image : image + 1], step.pred_scores[0, image : image + 1]
        [(queries, targets)] = HungarianMatcher()(*layer, boxes[own], labels[own], [counts[image]])
        assert (matching[0] == queries).all()
        assert (matching[1] == targets + first).all()
        assert sorted(matching[1]) == list(range(own.start, own.stop))


@pytest.mark.parametrize(("queries", "targets"), [(2, 4), (4, 4), (5, 3), (1, 3), (3, 1)])
def test_as_many_pairs_come_out_as_the_smaller_side_has_and_they_are_the_cheapest(draw_step, queries, targets):
    step = draw_step(gt_groups=(targets,), queries=queries)
    [(rows, columns)] = HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets)
    cost = costs(HungarianMatcher(), step)
    wide = cost if queries <= targets else cost.T
    every = permutations(range(max(queries, targets)), min(queries, targets))
    assert len(rows) == min(queries, targets)
    assert cost[rows, columns].sum() == pytest.approx(min(wide[range(len(one)), one].sum() for one in every))


def test_queries_ascend_in_every_image(draw_step):
    step = draw_step(gt_groups=(4, 5), queries=8)
    for queries, _ in HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets):
        assert (np.diff(queries) > 0).all()


def test_no_targets_at_all_give_a_pair_of_empty_int64_arrays_for_every_image(draw_step):
    step = draw_step(gt_groups=(0, 0, 0))
    matching = HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets)
    assert [(len(queries), len(targets)) for queries, targets in matching] == [(0, 0)] * 3
    assert {side.dtype for pair in matching for side in pair} == {np.dtype(np.int64)}


def test_indices_are_int64_where_there_are_targets(draw_step):
    step = draw_step()
    matching = HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets)
    assert {side.dtype for pair in matching for side in pair} == {np.dtype(np.int64)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_predictions_of_any_precision_are_matched_in_double(draw_step, dtype):
    step = draw_step(gt_groups=(4, 5), queries=8)
    narrow = [each.astype(dtype) for each in (step.pred_bboxes[0], step.pred_scores[0])]
    wide = [each.astype(np.float64) for each in narrow]
    results = (HungarianMatcher()(*layer, *step.targets) for layer in (narrow, wide))
    for got, expected in zip(*results, strict=True):
        assert (got[0] == expected[0]).all()
        assert (got[1] == expected[1]).all()


def test_a_half_precision_logit_does_not_lose_the_1e8th():
    boxes, logits, *targets = one_image([GOOD, GOOD], [[-30.0], [-18.0]], [GOOD], [0])
    narrow = boxes.astype(np.float16), logits.astype(np.float16)
    assert HungarianMatcher()(*narrow, *targets)[0][0].tolist() == [1]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint64])
def test_labels_may_be_integers_of_any_width(draw_step, dtype):
    step = draw_step()
    boxes, labels, counts = step.targets
    layer = step.pred_bboxes[0], step.pred_scores[0]
    results = (HungarianMatcher()(*layer, boxes, each, counts) for each in (labels, labels.astype(dtype)))
    for got, expected in zip(*results, strict=True):
        assert (got[0] == expected[0]).all()
        assert (got[1] == expected[1]).all()


def test_masks_are_not_read_unless_they_are_asked_for(draw_step):
    step = draw_step()
    given = step.pred_bboxes[0], step.pred_scores[0], *step.targets
    masks = np.full((3, 6, 2, 2), np.nan), np.ones((5, 2, 2))
    without, unread = HungarianMatcher()(*given), HungarianMatcher(num_sample_points=0)(*given, *masks)
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(without, unread, strict=True))


def test_matching_leaves_its_arguments_alone_and_has_no_memory(draw_step):
    step, fresh, matcher = draw_step(), draw_step(), HungarianMatcher()
    results = [matcher(step.pred_bboxes[0], step.pred_scores[0], *step.targets) for _ in range(2)]
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(*results, strict=True))
    assert (step.pred_bboxes == fresh.pred_bboxes).all()
    assert (step.pred_scores == fresh.pred_scores).all()
    assert all((a == b).all() for a, b in zip(step.targets[:2], fresh.targets[:2], strict=True))


def test_gains_are_copied_when_the_matcher_is_built():
    gains = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
    built = HungarianMatcher(gains)
    gains["bbox"] = 0.0
    assert built.cost_gain["bbox"] == 5.0
