"""Gradients of whole losses, held against central differences of the values, and open exactly at the kinks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.reference import Guard, RTDETRDetectionLoss, Tracked, bbox_iou, magnitude, track
from detr_conformance.reference.boxes import giou, l1_distance
from detr_conformance.reference.loss_value import Loss

from ..thorough import thorough_but
from .differentiating import giou_slope, gradient, l1_slope

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # they are checked wherever the loss is called less often

STEP = 1e-6
UNITS = 1.0
"""Roundings of float64 granted to each of two values for each that its bound counts; 0.16 is the most that was seen."""
THIRD_ORDER = 1e-8
"""Relative to the slope, what a central difference over this step leaves out; boxes are at least 0.1 wide here."""

BOXES, LOGITS = ("pred_bboxes", "dn_bboxes"), ("pred_scores", "dn_scores")
CASES = 200


def draw_case(draw_step, seed):
    """A loss with options of every kind, and a small training step for it."""
    rng = np.random.default_rng([seed, 99])
    layers, images = int(rng.choice([1, 2, 2, 3])), int(rng.integers(1, 3))
    gt_groups = tuple(int(count) for count in rng.integers(0, 4, images))
    step = draw_step(
        seed,
        layers=layers,
        gt_groups=gt_groups,
        queries=int(rng.integers(1, 5)),
        classes=int(rng.integers(1, 4)),
        groups=int(rng.integers(0, 3)) if any(gt_groups) else 0,
    )
    loss = RTDETRDetectionLoss(
        nc=step.pred_scores.shape[-1],
        loss_gain=dict(zip(("class", "bbox", "giou"), rng.permutation([0.5, 3.0, 1.25]).tolist(), strict=True)),
        use_fl=seed % 3 > 0,
        use_vfl=seed % 3 > 1,
        use_uni_match=layers > 1 and seed % 2 > 0,
        uni_match_ind=layers - 2 if layers > 1 else 0,
        gamma=float(rng.choice([0.0, 1.0, 1.5, 2.0])),
        alpha=float(rng.choice([0.25, 0.75, -1.0])),
    )
    return loss, step


def direction(losses, step, names, rng) -> dict[str, np.ndarray]:
    """A random direction in these inputs that stays away from entries whose derivative is open."""
    arrays = {name: getattr(step, name) for name in names if getattr(step, name) is not None}
    chosen = {name: rng.normal(size=array.shape) for name, array in arrays.items()}
    for loss in losses.values():
        for name in arrays.keys() & loss.gradients.keys():
            chosen[name][np.isinf(loss.gradients[name].magnitude)] = 0.0
    return chosen


def moved(step, along, by):
    """The step with its inputs moved along a direction."""
    return replace(step, **{name: getattr(step, name) + by * change for name, change in along.items()})


def shares(loss, step, losses, along, keys) -> dict[str, float]:
    """How far slopes along a direction are from central differences, in units of what rounding explains."""
    after, before = (loss(*moved(step, along, by).arguments) for by in (STEP, -STEP))
    used = {}
    for key in keys:
        by_name = losses[key].gradients
        slope = sum(float((by_name[name].values * along[name]).sum()) for name in along.keys() & by_name.keys())
        difference = (float(after[key]) - float(before[key])) / (2 * STEP)
        rounding = UNITS * 2.0**-52 * (after[key].magnitude + before[key].magnitude) / (2 * STEP)
        used[key] = abs(difference - slope) / (rounding + THIRD_ORDER * abs(slope) + 1e-300)
    return used


def worst(loss, step, losses=None, seed=0) -> float:
    """The largest share over all losses: classification by logits, box losses by boxes."""
    losses = loss(*step.arguments) if losses is None else losses
    rng = np.random.default_rng(seed)
    logits, boxes = (direction(losses, step, names, rng) for names in (LOGITS, BOXES))
    by_logits = shares(loss, step, losses, logits, [key for key in losses if "class" in key])
    by_boxes = shares(loss, step, losses, boxes, [key for key in losses if "class" not in key])
    return max([*by_logits.values(), *by_boxes.values()])


@pytest.mark.parametrize("tenth", thorough_but([0], range(10)))
def test_gradients_of_every_loss_are_central_differences_along_random_directions(draw_step, tenth):
    for seed in range(tenth * CASES // 10, (tenth + 1) * CASES // 10):
        assert worst(*draw_case(draw_step, seed)) <= 1, f"seed {seed}"


@pytest.mark.parametrize("seed", thorough_but([0], range(3)))
def test_gradients_are_central_differences_entry_by_entry(draw_step, seed):
    loss, _ = draw_case(draw_step, seed)
    step = draw_step(seed, layers=2, gt_groups=(1,), queries=2, classes=loss.nc, groups=1)
    losses = loss(*step.arguments)
    for name in (*BOXES, *LOGITS):
        keys = [key for key, each in losses.items() if name in each.gradients]
        for entry in np.ndindex(getattr(step, name).shape):
            along = {name: np.zeros(getattr(step, name).shape)}
            along[name][entry] = 1.0
            assert max(shares(loss, step, losses, along, keys).values()) <= 1, (name, entry)


def with_gradients(losses, change) -> dict[str, Loss]:
    """The same losses with other gradients."""
    return {key: loss.map_gradients(change) for key, loss in losses.items()}


@pytest.mark.parametrize(
    "wrong",
    [lambda gradient: gradient * 1.0001, lambda gradient: -1.0 * gradient, lambda gradient: gradient * 0.0],
    ids=["off by a ten thousandth", "of the wrong sign", "zero"],
)
def test_a_gradient_that_is_wrong_everywhere_is_noticed(draw_step, wrong):
    for seed in range(6):
        loss, _ = draw_case(draw_step, seed)
        step = draw_step(seed, layers=2, gt_groups=(1, 2), classes=loss.nc, groups=1)
        assert worst(loss, step, with_gradients(loss(*step.arguments), wrong)) > 10


def test_a_gradient_that_is_wrong_in_a_single_entry_is_noticed(draw_step):
    loss, step = RTDETRDetectionLoss(nc=4), draw_step(groups=1)

    def wrong(gradient):
        changed = track(gradient.values)
        place = np.unravel_index(np.abs(gradient.values).argmax(), gradient.shape)
        changed[place] = 1.001 * gradient.values[place]
        return changed

    assert worst(loss, step, with_gradients(loss(*step.arguments), wrong)) > 10


def test_a_loss_without_layers_or_pairs_to_differentiate_is_zero(draw_step):
    losses = RTDETRDetectionLoss(nc=4)(*draw_step(layers=1, gt_groups=(0,)).arguments)
    assert not losses["loss_giou_aux"].gradients
    assert not losses["loss_class_dn"].gradients
    assert not losses["loss_giou"].gradients["pred_bboxes"].values.any()


@pytest.mark.parametrize("options", [{}, {"use_vfl": True}, {"use_fl": False}])
def test_the_score_stops_the_gradient_so_that_no_class_loss_has_one_by_boxes(draw_step, options):
    step, loss = draw_step(groups=1), RTDETRDetectionLoss(nc=4, **options)
    losses = loss(*step.arguments)
    assert all(not set(BOXES) & set(each.gradients) for key, each in losses.items() if "class" in key)
    closer = moved(step, {"pred_bboxes": np.full(step.pred_bboxes.shape, 1e-3)}, 1)
    depends = float(loss(*closer.arguments)["loss_class"]) != float(losses["loss_class"])
    assert depends == bool(options)


def test_boxes_without_a_partner_have_gradients_of_exactly_zero(draw_step):
    step, loss = draw_step(groups=2), RTDETRDetectionLoss(nc=4)
    losses = loss(*step.arguments)
    matching = loss.matcher(step.pred_bboxes[-1], step.pred_scores[-1], *step.targets)
    alone = np.ones(step.pred_bboxes.shape[1:3], dtype=bool)
    for image, (queries, _) in enumerate(matching):
        alone[image, queries] = False
    for key in ("loss_bbox", "loss_giou"):
        gradient = losses[key].gradients["pred_bboxes"][-1]
        assert not gradient.values[alone].any()
        assert not gradient.magnitude[alone].any()
        assert gradient.values[~alone].any(axis=-1).all()


def test_negative_and_padding_slots_have_box_gradients_of_exactly_zero(draw_step):
    step = draw_step(groups=2)
    positive = np.zeros(step.dn_bboxes.shape[1:3], dtype=bool)
    for image, slots in enumerate(step.dn_meta["dn_pos_idx"]):
        positive[image, slots] = True
    for key in ("loss_bbox_dn", "loss_giou_dn"):
        gradient = RTDETRDetectionLoss(nc=4)(*step.arguments)[key].gradients["dn_bboxes"][-1]
        assert not gradient.values[~positive].any()
        assert gradient.values[positive].any(axis=-1).all()


@pytest.mark.parametrize(
    ("main", "auxiliary", "name"),
    [
        ("loss_class", "loss_class_aux", "pred_scores"),
        ("loss_giou", "loss_giou_aux", "pred_bboxes"),
        ("loss_bbox_dn", "loss_bbox_aux_dn", "dn_bboxes"),
        ("loss_class_dn", "loss_class_aux_dn", "dn_scores"),
    ],
)
def test_each_loss_has_a_gradient_by_its_own_layers_alone(draw_step, main, auxiliary, name):
    losses = RTDETRDetectionLoss(nc=4)(*draw_step(layers=3, groups=1).arguments)
    by_layer = [losses[key].gradients[name].values.any(axis=(1, 2, 3)).tolist() for key in (main, auxiliary)]
    assert by_layer == [[False, False, True], [True, True, False]]


# Box losses, and their kinks.


def giou_gradient(pred, target) -> Tracked:
    """Derivative of each pair's GIoU with respect to the predicted box."""
    return gradient(giou, pred, target, Guard())


def grid_boxes(seed, count) -> np.ndarray:
    """Boxes whose edges lie on a coarse grid, where edges of two boxes often coincide; sums of them are exact."""
    corners = np.sort(np.random.default_rng(seed).integers(0, 7, (count, 2, 2)), axis=1) / 8
    return np.concatenate([corners.sum(axis=1) / 2, np.diff(corners, axis=1)[:, 0] + 0.25], axis=-1)


def is_kink(pred, target) -> list[bool]:
    """By centre x, centre y, width and height: whether moving that edge changes what bounds intersection or hull."""
    a, b = ([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2] for box in (pred, target))
    overlap = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])
    bends = (a[0] == b[0]) | (a[1] == b[1]) | ((overlap == 0) & (overlap[::-1] >= 0))
    return [*bends, *bends]


def test_the_bound_of_a_giou_gradient_is_infinite_exactly_at_kinks():
    pred, target = grid_boxes(1, 3000), grid_boxes(2, 3000)
    expected = np.array([is_kink(*pair) for pair in zip(pred, target, strict=True)])
    got = np.isinf(magnitude(giou_gradient(pred, target)))
    assert (got == expected).all()
    assert 0.2 < expected.mean() < 0.8


def test_the_bound_of_an_l1_gradient_is_infinite_exactly_where_the_numbers_are_equal():
    pred, target = grid_boxes(1, 1000), grid_boxes(2, 1000)
    slope = gradient(l1_distance, pred, target)
    assert (np.isinf(slope.magnitude) == (pred == target)).all()
    assert (slope.magnitude[pred != target] == 0).all()
    assert (slope.values == l1_slope(pred, target)).all()


def test_next_to_a_kink_a_gradient_is_open_only_as_far_as_rounding_reaches():
    target = np.array([[0.5, 0.5, 0.25, 0.25]] * 2)
    pred = target + np.array([[1e-7, 0.125, 0, 0], [1e-3, 0.125, 0, 0]])
    open_entries = np.isinf(magnitude(giou_gradient(pred, target)))
    assert open_entries.tolist() == [[True, False, True, False], [False] * 4]


def test_at_a_kink_the_gradient_is_the_mean_of_both_sides():
    target = np.array([[0.5, 0.5, 0.5, 0.5]])
    at = giou_gradient(target, target).values
    sides = [giou_gradient(target + np.array([[shift, 0, 0, 0]]), target).values[0, 0] for shift in (-1e-9, 1e-9)]
    assert at[0, 0] == pytest.approx(sum(sides) / 2, abs=1e-6)
    assert sides[0] > 1 > -1 > sides[1]


def boxes_of_every_kind(rng) -> np.ndarray:
    """Boxes of which some are turned inside out."""
    return np.concatenate([rng.uniform(0, 1, (3000, 2)), rng.uniform(-0.3, 0.6, (3000, 2))], -1)


@pytest.mark.parametrize("draw", [boxes_of_every_kind, lambda rng: grid_boxes(rng.integers(99), 3000)])
def test_giou_gradients_are_the_quotient_rule_at_kinks_too(draw):
    rng = np.random.default_rng(6)
    pred, target = draw(rng), draw(rng)
    slope, expected = giou_gradient(pred, target).values, giou_slope(pred, target)
    assert (np.abs(slope - expected) <= 1e-9 * (1 + expected**2)).all()


def test_giou_gradients_are_central_differences_for_boxes_of_every_kind():
    rng = np.random.default_rng(5)
    pred, target = boxes_of_every_kind(rng), boxes_of_every_kind(rng)
    slope = giou_gradient(pred, target)
    for axis in range(4):
        change = STEP * np.eye(4)[axis]
        after, before = (bbox_iou(track(pred + by), track(target), GIoU=True)[..., 0] for by in (change, -change))
        rounding = UNITS * 2.0**-52 * (after.magnitude + before.magnitude) / (2 * STEP)
        error = np.abs((after.values - before.values) / (2 * STEP) - slope.values[:, axis])
        smooth = np.isfinite(slope.magnitude[:, axis]) & (np.abs(after.values) < 10)
        assert (error / (rounding + 1e-6 * (1 + slope.values[:, axis] ** 2)))[smooth].max() <= 1
        assert smooth.mean() > 0.9
