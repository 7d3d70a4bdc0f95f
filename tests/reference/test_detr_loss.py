"""DETRLoss, sentence by sentence, against a loop over queries and classes that can be followed by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import DETRLoss, HungarianMatcher
from detr_conformance.reference.boxes import bbox_iou

GAINS = {"class": 0.7, "bbox": 3.0, "giou": 1.25}
CLASSIFICATIONS = {"focal": {}, "varifocal": {"use_vfl": True}, "cross-entropy": {"use_fl": False}}
TERMS = ("class", "bbox", "giou")

classifications = pytest.mark.parametrize("options", CLASSIFICATIONS.values(), ids=CLASSIFICATIONS)


def term(x, q, y, options, gamma=1.5, alpha=0.25) -> float:
    """The classification loss of one logit."""
    p = 1 / (1 + math.exp(-x))
    entropy = -q * math.log(p) - (1 - q) * math.log(1 - p)
    if not options.get("use_fl", True):
        return entropy
    if options.get("use_vfl", False):
        return (alpha * p**gamma * (1 - y) + q) * entropy
    truth = p if y else 1 - p
    return (alpha if y else 1 - alpha) * (1 - truth) ** gamma * -math.log(truth)


def by_hand(boxes, logits, targets, matching, options) -> dict[str, float]:
    """The losses of one layer under a matching, before gains, with `max(pairs, 1)` as the normaliser."""
    gt_bboxes, gt_cls, _ = targets
    owner = {(image, q): t for image, (qs, ts) in enumerate(matching) for q, t in zip(qs, ts, strict=True)}
    sums = dict.fromkeys(TERMS, 0.0)
    for image, query in product(range(len(boxes)), range(boxes.shape[1])):
        target = owner.get((image, query))
        pair = () if target is None else (boxes[image, query][None], gt_bboxes[target][None])
        iou = bbox_iou(*pair).item() if pair else 0.0
        for number, x in enumerate(logits[image, query]):
            y = float(bool(pair) and gt_cls[target] == number)
            # Only the focal loss takes the label itself; the others take the score.
            sums["class"] += term(x, iou * y, y, options)
        if pair:
            sums["bbox"] += float(np.abs(pair[0] - pair[1]).sum())
            sums["giou"] += 1 - bbox_iou(*pair, GIoU=True).item()
    pairs = max(len(owner), 1)
    by_queries = not options.get("use_fl", True)
    return {key: total / (boxes.shape[1] if by_queries and key == "class" else pairs) for key, total in sums.items()}


def layer(step, number=-1):
    """Boxes and logits of one layer."""
    return step.pred_bboxes[number], step.pred_scores[number]


def values(losses) -> dict[str, float]:
    """Losses as plain numbers."""
    return {key: float(loss) for key, loss in losses.items()}


def assert_layer(losses, expected, postfix="") -> None:
    """The three losses of one layer are the expected ones times `GAINS`."""
    __tracebackhide__ = True
    for name in TERMS:
        key = f"loss_{name}{postfix}"
        assert float(losses[key]) == pytest.approx(GAINS[name] * expected[name], rel=1e-9), key


@classifications
@pytest.mark.parametrize("gt_groups", [(2, 0, 3), (0, 4), (1,)])
def test_a_layer_is_the_sum_over_queries_and_classes(draw_step, options, gt_groups):
    step = draw_step(layers=1, gt_groups=gt_groups)
    losses = DETRLoss(nc=4, loss_gain=GAINS, **options)(*step.plain)
    matching = HungarianMatcher({"class": 2.0, "bbox": 5.0, "giou": 2.0})(*layer(step), *step.targets)
    assert_layer(losses, by_hand(*layer(step), step.targets, matching, options))


@classifications
def test_the_normaliser_is_the_number_of_pairs_which_too_few_queries_make_smaller_than_the_targets(draw_step, options):
    step = draw_step(layers=1, gt_groups=(5, 1), queries=2)
    matching = [(np.array([0, 1]), np.array([4, 2])), (np.array([1]), np.array([5]))]
    losses = DETRLoss(nc=4, loss_gain=GAINS, **options)(*step.plain, match_indices=matching)
    assert_layer(losses, by_hand(*layer(step), step.targets, matching, options))


def test_a_given_matching_is_used_in_every_layer_and_nothing_is_matched(draw_step, monkeypatch):
    step, loss = draw_step(), DETRLoss(nc=4, loss_gain=GAINS, use_uni_match=True)
    monkeypatch.setattr(loss, "matcher", None)
    matching = [(np.array([5, 1]), np.array([0, 1])), (np.array([], int),) * 2, (np.array([0]), np.array([3]))]
    losses = loss(*step.plain, match_indices=matching)
    expected = [by_hand(*layer(step, number), step.targets, matching, {}) for number in range(3)]
    assert_layer(losses, expected[2])
    assert_layer(losses, {name: expected[0][name] + expected[1][name] for name in TERMS}, "_aux")


def test_the_target_score_is_the_iou_and_not_the_giou(draw_step):
    step = draw_step(layers=1, gt_groups=(1,), queries=1, classes=1)
    step.pred_bboxes[0, 0, 0], step.batch["bboxes"][0] = (0.2, 0.2, 0.2, 0.2), (0.3, 0.3, 0.2, 0.2)
    [x] = step.pred_scores.ravel()
    loss = DETRLoss(nc=1, use_fl=False)(*step.plain)["loss_class"]
    assert float(loss) == pytest.approx(term(x, 1 / 7, 1, {"use_fl": False}), rel=1e-5)


def test_background_has_score_zero_in_every_class(draw_step):
    step = draw_step(layers=1, gt_groups=(1,), queries=3)
    loss = DETRLoss(nc=4, use_fl=False)
    matching = [(np.array([1]), np.array([0]))]
    slopes = loss(*step.plain, match_indices=matching)["loss_class"].gradients["pred_scores"].values
    p = 1 / (1 + np.exp(-step.pred_scores))
    assert slopes[0, 0, [0, 2]] == pytest.approx(p[0, 0, [0, 2]] / 3)


def test_varifocal_gives_way_to_focal_without_a_single_pair(draw_step):
    step = draw_step(gt_groups=(0, 0))
    varifocal, focal = (DETRLoss(nc=4, use_vfl=use_vfl)(*step.plain) for use_vfl in (True, False))
    assert values(varifocal) == values(focal)
    step = draw_step(gt_groups=(0, 1))
    varifocal, focal = (DETRLoss(nc=4, use_vfl=use_vfl)(*step.plain) for use_vfl in (True, False))
    assert values(varifocal)["loss_class"] != values(focal)["loss_class"]


def test_without_pairs_the_focal_sum_is_divided_by_one(draw_step):
    step = draw_step(layers=1, gt_groups=(0, 0))
    total = sum(term(x, 0, 0, {}) for x in step.pred_scores.ravel())
    assert values(DETRLoss(nc=4)(*step.plain))["loss_class"] == pytest.approx(total)


def test_cross_entropy_is_divided_by_the_queries_with_and_without_pairs(draw_step):
    step = draw_step(layers=1, gt_groups=(0, 0), queries=6)
    total = sum(term(x, 0, 0, {"use_fl": False}) for x in step.pred_scores.ravel())
    assert values(DETRLoss(nc=4, use_fl=False)(*step.plain))["loss_class"] == pytest.approx(total / 6)


def test_use_vfl_is_ignored_without_use_fl(draw_step):
    step = draw_step()
    both = [DETRLoss(nc=4, use_fl=False, use_vfl=use_vfl)(*step.plain) for use_vfl in (True, False)]
    assert values(both[0]) == values(both[1])


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_focal_has_no_alpha_factor_where_alpha_is_not_positive(draw_step, alpha):
    step = draw_step(layers=1, gt_groups=(0,))
    total = sum(term(x, 0, 0, {}) / 0.75 for x in step.pred_scores.ravel())
    assert values(DETRLoss(nc=4, alpha=alpha)(*step.plain))["loss_class"] == pytest.approx(total)


def test_gamma_and_alpha_reach_both_classification_losses_but_not_the_matcher():
    loss = DETRLoss(nc=4, gamma=3.0, alpha=0.6, use_vfl=True)
    assert (loss.fl.gamma, loss.fl.alpha) == (loss.vfl.gamma, loss.vfl.alpha) == (3.0, 0.6)
    assert (loss.matcher.gamma, loss.matcher.alpha, loss.matcher.use_fl) == (2.0, 0.25, True)


def test_the_matcher_has_gains_2_5_2_whatever_the_gains_of_the_loss():
    assert DETRLoss(nc=4, loss_gain=GAINS).matcher.cost_gain == {"class": 2.0, "bbox": 5.0, "giou": 2.0}


def test_the_default_gains_are_class_1_bbox_5_giou_2_and_three_that_nothing_reads(draw_step):
    step, loss = draw_step(), DETRLoss(nc=4)
    assert loss.loss_gain == {"class": 1.0, "bbox": 5.0, "giou": 2.0, "no_object": 0.1, "mask": 1.0, "dice": 1.0}
    only = DETRLoss(nc=4, loss_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0})
    other = DETRLoss(nc=4, loss_gain=loss.loss_gain | {"no_object": 100.0, "mask": 7.0, "dice": 7.0})
    assert values(loss(*step.plain)) == values(only(*step.plain)) == values(other(*step.plain))


@pytest.mark.parametrize("name", TERMS)
@classifications
def test_each_gain_multiplies_its_own_loss_once(draw_step, name, options):
    step = draw_step()
    one, four = (
        values(DETRLoss(nc=4, loss_gain=dict.fromkeys(TERMS, 1.0) | {name: gain}, **options)(*step.plain))
        for gain in (1.0, 4.0)
    )
    assert four == pytest.approx({key: value * (4.0 if name in key else 1.0) for key, value in one.items()})


@classifications
def test_without_pairs_the_box_losses_are_zero_with_zero_gradients(draw_step, options):
    step = draw_step(gt_groups=(0, 0))
    losses = DETRLoss(nc=4, **options)(*step.plain)
    for key in ("loss_bbox", "loss_giou", "loss_bbox_aux", "loss_giou_aux"):
        assert float(losses[key]) == losses[key].magnitude == 0.0
        assert losses[key].gradients["pred_bboxes"].shape == step.pred_bboxes.shape
        assert not losses[key].gradients["pred_bboxes"].values.any()


def test_the_main_loss_is_that_of_the_last_layer_alone(draw_step):
    step = draw_step()
    alone = DETRLoss(nc=4)(step.pred_bboxes[2:], step.pred_scores[2:], step.batch)
    losses = values(DETRLoss(nc=4)(*step.plain))
    assert all(losses[f"loss_{name}"] == float(alone[f"loss_{name}"]) for name in TERMS)


@classifications
def test_auxiliary_losses_are_sums_over_the_other_layers_each_matched_on_its_own(draw_step, options):
    step, loss = draw_step(layers=4), DETRLoss(nc=4, loss_gain=GAINS, **options)
    expected = dict.fromkeys(TERMS, 0.0)
    for number in range(3):
        matching = loss.matcher(*layer(step, number), *step.targets)
        one = by_hand(*layer(step, number), step.targets, matching, options)
        expected = {name: expected[name] + one[name] for name in TERMS}
    assert_layer(loss(*step.plain), expected, "_aux")


@pytest.mark.parametrize("shared", range(4))
def test_uni_match_shares_one_auxiliary_matching_while_the_main_layer_matches_itself(draw_step, shared):
    step, own = draw_step(layers=5), DETRLoss(nc=4, loss_gain=GAINS)
    losses = DETRLoss(nc=4, loss_gain=GAINS, use_uni_match=True, uni_match_ind=shared)(*step.plain)
    matching = own.matcher(*layer(step, shared), *step.targets)
    parts = [by_hand(*layer(step, number), step.targets, matching, {}) for number in range(4)]
    assert_layer(losses, {name: sum(part[name] for part in parts) for name in TERMS}, "_aux")
    assert values(own(*step.plain))["loss_bbox"] == float(losses["loss_bbox"])


@pytest.mark.parametrize("options", [{}, {"use_uni_match": True}, {"use_uni_match": True, "uni_match_ind": 3}])
def test_a_single_layer_has_auxiliary_losses_of_zero(draw_step, options):
    losses = DETRLoss(nc=4, **options)(*draw_step(layers=1).plain)
    assert [float(losses[f"loss_{name}_aux"]) for name in TERMS] == [0.0] * 3


def test_without_aux_loss_there_are_three_keys(draw_step):
    losses = DETRLoss(nc=4, aux_loss=False)(*draw_step().plain)
    assert list(losses) == ["loss_class", "loss_bbox", "loss_giou"]


def test_the_postfix_goes_last(draw_step):
    losses = DETRLoss(nc=4)(*draw_step().plain, postfix="_x")
    assert list(losses) == [f"loss_{name}{aux}_x" for aux in ("", "_aux") for name in TERMS]


def test_every_loss_is_a_scalar_of_double_precision(draw_step):
    for layers, groups in [(1, (0,)), (3, (2, 0, 3))]:
        for loss in DETRLoss(nc=4)(*draw_step(layers=layers, gt_groups=groups).plain).values():
            assert loss.value.shape == ()
            assert loss.value.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_predictions_and_labels_of_other_widths_are_good_input(draw_step, dtype):
    step = draw_step()
    boxes, logits = (each.astype(dtype) for each in step.plain[:2])
    narrow = DETRLoss(nc=4)(boxes, logits, step.batch | {"cls": step.batch["cls"].astype(np.uint8)})
    wide = DETRLoss(nc=4)(boxes.astype(float), logits.astype(float), step.batch)
    assert values(narrow) == values(wide)


def test_calling_twice_gives_the_same_and_leaves_the_arguments_alone(draw_step):
    step, fresh, loss = draw_step(), draw_step(), DETRLoss(nc=4, use_vfl=True)
    first, other, second = (values(loss(*each.plain)) for each in (step, draw_step(7, queries=3), step))
    assert first == second != other
    assert (step.pred_bboxes == fresh.pred_bboxes).all()
    assert (step.pred_scores == fresh.pred_scores).all()
    assert all(np.array_equal(step.batch[key], fresh.batch[key]) for key in step.batch)


def test_forward_is_what_a_call_does(draw_step):
    step, loss = draw_step(), DETRLoss(nc=4)
    assert values(loss.forward(*step.plain, postfix="_dn")) == values(loss(*step.plain, postfix="_dn"))


def test_get_index_flattens_the_pairs_of_a_batch():
    matching = [(np.array([1, 4]), np.array([0, 1])), (np.array([], int),) * 2, (np.array([0]), np.array([2]))]
    (images, queries), targets = DETRLoss._get_index(matching)
    assert (images.tolist(), queries.tolist(), targets.tolist()) == ([0, 0, 2], [1, 4, 0], [0, 1, 2])


def test_get_index_of_nothing_is_made_of_int64():
    (images, queries), targets = DETRLoss._get_index([(np.array([], int),) * 2] * 2)
    assert {each.dtype for each in (images, queries, targets)} == {np.dtype(np.int64)}
    assert len(images) == len(queries) == len(targets) == 0


def test_get_assigned_bboxes_counts_targets_within_each_image(draw_step):
    boxes = draw_step(layers=1).pred_bboxes[0]
    wanted = [np.full((3, 4), 0.1), np.zeros((0, 4)), np.arange(8.0).reshape(2, 4)]
    matching = [(np.array([5]), np.array([2])), (np.array([], int),) * 2, (np.array([0, 3]), np.array([1, 0]))]
    assigned, targets = DETRLoss._get_assigned_bboxes(boxes, wanted, matching)
    assert (assigned == boxes[[0, 2, 2], [5, 0, 3]]).all()
    assert (targets == [wanted[0][2], wanted[2][1], wanted[2][0]]).all()


def test_get_loss_class_takes_classes_and_scores_of_every_query(draw_step):
    logits = draw_step(layers=1).pred_scores[0, :1]
    classes, scores = np.full((1, 6), 4), np.zeros((1, 6))
    classes[0, 2], scores[0, 2] = 1, 0.6
    loss = DETRLoss(nc=4, use_vfl=True)._get_loss_class(logits, classes, scores, 3, "_x")["loss_class_x"]
    labels = np.zeros((6, 4))
    labels[2, 1] = 1
    terms = [term(x, 0.6 * y, y, {"use_vfl": True}) for x, y in zip(logits.ravel(), labels.ravel(), strict=True)]
    assert float(loss) == pytest.approx(sum(terms) / 3)


def test_get_loss_bbox_takes_pairs(draw_step):
    pred, target = draw_step(layers=1, queries=3).pred_bboxes[0, :2]
    losses = DETRLoss(nc=4)._get_loss_bbox(pred, target, "_x")
    assert list(losses) == ["loss_bbox_x", "loss_giou_x"]
    assert float(losses["loss_bbox_x"]) == pytest.approx(5 * np.abs(pred - target).sum() / 3)
    assert float(losses["loss_giou_x"]) == pytest.approx(2 * (1 - bbox_iou(pred, target, GIoU=True)).sum() / 3)


def test_get_loss_aux_is_asked_for_whatever_the_constructor_was_told(draw_step):
    step = draw_step()
    one, other = (
        DETRLoss(nc=4, aux_loss=asked)._get_loss_aux(*step.plain[:2], *step.targets) for asked in (False, True)
    )
    assert values(one) == values(other)


# Non-finite predictions.

MATCHED = [(np.array([1]), np.array([0]))]


def broken(draw_step, box=None, logit=None, query=1):
    """One image with three queries, of which `MATCHED` takes the second, and one number that is not finite."""
    step = draw_step(layers=1, gt_groups=(1,), queries=3)
    if box is not None:
        step.pred_bboxes[0, 0, query, 0] = box
    if logit is not None:
        step.pred_scores[0, 0, query, 2] = logit
    return step


@pytest.mark.parametrize("options", [{}, {"use_vfl": True}])
def test_a_nan_box_that_stays_unmatched_leaves_every_loss_finite(draw_step, options):
    losses = DETRLoss(nc=4, **options)(*broken(draw_step, box=math.nan, query=0).plain, match_indices=MATCHED)
    assert all(math.isfinite(float(loss)) for loss in losses.values())


@classifications
def test_a_matched_nan_box_makes_the_box_losses_nan_and_the_class_loss_where_it_takes_the_score(draw_step, options):
    losses = values(DETRLoss(nc=4, **options)(*broken(draw_step, box=math.nan).plain, match_indices=MATCHED))
    assert math.isnan(losses["loss_bbox"])
    assert math.isnan(losses["loss_giou"])
    assert math.isnan(losses["loss_class"]) == bool(options)


@classifications
@pytest.mark.parametrize("query", [0, 1])
def test_a_nan_logit_makes_the_class_loss_nan(draw_step, options, query):
    step = broken(draw_step, logit=math.nan, query=query)
    losses = values(DETRLoss(nc=4, **options)(*step.plain, match_indices=MATCHED))
    assert math.isnan(losses["loss_class"])
    assert math.isfinite(losses["loss_bbox"] + losses["loss_giou"])


@classifications
def test_an_infinite_logit_of_a_background_class_makes_the_class_loss_infinite(draw_step, options):
    step = broken(draw_step, logit=math.inf, query=0)
    assert values(DETRLoss(nc=4, **options)(*step.plain, match_indices=MATCHED))["loss_class"] == math.inf


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_matched_box_makes_the_l1_loss_infinite(draw_step, value):
    losses = DETRLoss(nc=4)(*broken(draw_step, box=value).plain, match_indices=MATCHED)
    assert float(losses["loss_bbox"]) == math.inf


@classifications
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_crashes_where_the_matcher_meets_predictions_that_are_not_finite(draw_step, options, value):
    step = draw_step()
    step.pred_bboxes[:, 0], step.pred_scores[:, 2] = value, value
    losses = DETRLoss(nc=4, **options)(*step.plain)
    assert not all(math.isfinite(float(loss)) for loss in losses.values())
