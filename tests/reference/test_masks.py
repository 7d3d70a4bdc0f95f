"""Losses of masks: closed forms, tables by hand, PyTorch's own resize, and the class API."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.properties import tolerance
from detr_conformance.reference import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, track
from detr_conformance.reference.masks import dice_loss, draw_points, mask_costs, mask_loss, resized, sampled

from .differentiating import central_difference, gradient
from .in_float32 import assert_within, shares, single

SIZES = [((3, 4), (3, 4)), ((3, 4), (6, 8)), ((3, 4), (7, 5)), ((8, 9), (3, 2)), ((1, 1), (4, 3)), ((6, 5), (18, 1))]
sizes = pytest.mark.parametrize(("size", "wanted"), SIZES, ids=str)


def probability(x):
    return 1 / (1 + math.exp(-x))


def one_mask(*rows):
    """A single map."""
    return np.array([rows], dtype=float)


# The two terms.


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.7, 4.0])
def test_one_pixel_on_the_object(x):
    p, [focal], [dice] = (
        probability(x),
        mask_loss(one_mask([x]), one_mask([1])),
        dice_loss(one_mask([x]), one_mask([1])),
    )
    assert focal == pytest.approx(0.25 * (1 - p) ** 2 * -math.log(p))
    assert dice == pytest.approx(1 - (2 * p + 1) / (p + 2))


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.7, 4.0])
def test_one_pixel_beside_the_object(x):
    p, [focal], [dice] = (
        probability(x),
        mask_loss(one_mask([x]), one_mask([0])),
        dice_loss(one_mask([x]), one_mask([0])),
    )
    assert focal == pytest.approx(0.75 * p**2 * -math.log(1 - p))
    assert dice == pytest.approx(1 - 1 / (p + 1))


def test_a_perfect_mask_costs_nothing():
    t = one_mask([1, 0, 0], [1, 1, 0])
    assert mask_loss(40 * (2 * t - 1), t) == pytest.approx(0, abs=1e-15)
    assert dice_loss(40 * (2 * t - 1), t) == pytest.approx(0, abs=1e-15)


def test_an_empty_mask_divides_by_one():
    t, missed = np.zeros((1, 2, 3)), np.full((1, 2, 3), 40.0)
    assert dice_loss(-missed, t) == pytest.approx(0, abs=1e-15)
    assert dice_loss(missed, t) == pytest.approx(1 - 1 / 7)
    assert mask_loss(missed, t) == pytest.approx(0.75 * 40)


def test_the_focal_term_is_a_mean_over_pixels_and_dice_is_one_quotient_for_each_mask():
    x, t = np.array([[[0.0, 2.0]], [[-1.0, 0.5]]]), np.array([[[1.0, 0.0]], [[1.0, 1.0]]])
    for mask, on, focal, dice in zip(x, t, mask_loss(x, t), dice_loss(x, t), strict=True):
        pixels = [float(mask_loss(one_mask([a]), one_mask([b]))[0]) for a, b in zip(mask[0], on[0], strict=True)]
        p = [probability(a) for a in mask[0]]
        both = sum(a * b for a, b in zip(p, on[0], strict=True))
        assert focal == pytest.approx(sum(pixels) / 2)
        assert dice == pytest.approx(1 - (2 * both + 1) / (sum(p) + on.sum() + 1))


# Other sizes.

TABLES = {
    "doubled": ([0, 1], [0, 0.25, 0.75, 1]),
    "tripled": ([0, 3], [0, 0, 1, 2, 3, 3]),
    "half as many again": ([0, 1, 2, 3], [0, 0.5, 7 / 6, 11 / 6, 2.5, 3]),
    "halved": ([0, 1, 4, 9], [0.5, 6.5]),
    "a third": ([0, 1, 2, 3, 5, 8], [1, 5]),
    "one pixel": ([7], [7, 7, 7]),
    "to one pixel": ([1, 2, 6], [2]),
}


@pytest.mark.parametrize("name", TABLES)
def test_resized_by_a_known_factor(name):
    row, table = (np.array(each, dtype=float) for each in TABLES[name])
    assert resized(row.reshape(1, 1, -1), 1, len(table)).ravel() == pytest.approx(table)
    assert resized(row.reshape(1, -1, 1), len(table), 1).ravel() == pytest.approx(table)


def test_both_axes_are_resized():
    expected = [[0, 0.25, 0.75, 1], [0.5, 0.75, 1.25, 1.5], [1.5, 1.75, 2.25, 2.5], [2, 2.25, 2.75, 3]]
    assert resized(one_mask([0, 1], [2, 3]), 4, 4)[0] == pytest.approx(np.array(expected))


@sizes
def test_resizing_is_that_of_pytorch_without_aligned_corners(size, wanted):
    torch = pytest.importorskip("torch")
    masks = np.random.default_rng(0).normal(size=(2, 3, *size))
    theirs = torch.nn.functional.interpolate(torch.tensor(masks), wanted, mode="bilinear", align_corners=False)
    assert resized(masks, *wanted) == pytest.approx(theirs.numpy(), rel=1e-12, abs=1e-14)


def test_a_value_at_a_centre_is_the_pixel_s_and_lines_lead_to_its_neighbours():
    mask = one_mask([1, 2, 4], [3, 5, 9])
    at_centres = [(column, row) for row in (0.25, 0.75) for column in (1 / 6, 1 / 2, 5 / 6)]
    assert sampled(mask, np.array(at_centres))[0] == pytest.approx([1, 2, 4, 3, 5, 9])
    between = [(1 / 3, 0.25), (1 / 2, 0.5), (1 / 3, 0.5), (0.25, 0.75)]
    assert sampled(mask, np.array(between))[0] == pytest.approx([1.5, 3.5, 2.75, 3.5])


def test_around_a_mask_everything_is_0():
    mask = np.full((1, 4, 4), 8.0)
    points = np.array([(0.0, 0.5), (1.0, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0625, 0.5)])
    assert sampled(mask, points)[0] == pytest.approx([4, 4, 2, 2, 6])


@pytest.mark.parametrize("size", [size for size, _ in SIZES], ids=str)
def test_sampling_is_that_of_pytorch_without_aligned_corners(size):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    masks, points = rng.normal(size=(3, *size)), rng.random((200, 2))
    grid = torch.tensor(2 * points - 1)[None, None]
    theirs = torch.nn.functional.grid_sample(torch.tensor(masks)[None], grid, align_corners=False)[0, :, 0]
    assert sampled(masks, points) == pytest.approx(theirs.numpy(), rel=1e-9, abs=1e-12)


# Gradients and error bounds.


@pytest.mark.usefixtures("shapes_unchecked")  # what an operation on a bound returns, NumPy decides
@pytest.mark.parametrize("term", [mask_loss, dice_loss])
@sizes
def test_gradients_are_central_differences(term, size, wanted):
    rng = np.random.default_rng(1)
    masks, t = rng.normal(0, 2, (2, *size)), (rng.random((2, *wanted)) < 0.5).astype(float)

    def loss(x, t):
        return term(resized(x, *wanted), t)

    assert gradient(loss, masks, t).values == pytest.approx(central_difference(loss, masks, t), rel=1e-6, abs=1e-8)


def in_torch(x, on, wanted):
    """Focal and dice loss as the papers write them, of the summed pairs, with their gradients, in float32."""
    torch = pytest.importorskip("torch")
    pred, t = torch.tensor(x, requires_grad=True), torch.tensor(on, dtype=torch.float32)
    z = torch.nn.functional.interpolate(pred[:, None], wanted, mode="bilinear", align_corners=False)[:, 0]
    p = z.sigmoid()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    weight = (0.25 * t + 0.75 * (1 - t)) * (1 - (p * t + (1 - p) * (1 - t))) ** 2
    focal = (weight * entropy).mean((1, 2)).sum()
    p, t = p.flatten(1), t.flatten(1)
    dice = (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum()
    by = [torch.autograd.grad(each, pred, retain_graph=True)[0].numpy() for each in (focal, dice)]
    return zip((focal.item(), dice.item()), by, strict=True)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("size", "wanted"), [((16, 16), (40, 24)), ((30, 30), (10, 10)), ((8, 8), (8, 8))], ids=str)
def test_float32_stays_within_the_bounds_of_values_and_gradients(size, wanted):
    x, on = single(20, *size, scale=4.0), np.random.default_rng(2).random((20, *wanted)) < 0.3
    losses = DETRLoss(nc=1)._get_loss_mask(x, on)
    for loss, (value, by_masks) in zip(losses.values(), in_torch(x, on, wanted), strict=True):
        assert shares(value / 20, loss.value).max() <= 1
        assert_within(by_masks / 20, loss.gradients["masks"])


def test_a_source_pixel_that_rounding_might_reach_has_an_open_share():
    # Row 4 of 9 lies on the centre of row 1 of 3: in float32 a library may find it just before, between rows 0 and 1.
    rows = resized(track(np.array([[[1e6], [0.0], [0.0]]])), 9, 1)
    assert rows.values[0, 4] == 0
    assert tolerance.allowed_error(rows, "float32")[0, 4, 0] > 0.1


# The class API.


@pytest.fixture
def masked(draw_step):
    """A training step, with masks of all queries and targets."""

    def draw(size=(4, 5), gt_size=(6, 7), **shape):
        step, rng = draw_step(**shape), np.random.default_rng(5)
        masks = rng.normal(0, 2, (*step.pred_scores.shape[:3], *size))
        gt_mask = (rng.random((len(step.batch["cls"]), *gt_size)) < 0.4).astype(np.uint8)
        return step, {"masks": masks, "gt_mask": gt_mask}

    return draw


def of_pairs(matching, masks, gt_mask):
    """Both losses of one layer, pair by pair."""
    losses = np.zeros(2)
    pairs = [(image, *pair) for image, both in enumerate(matching) for pair in zip(*both, strict=True)]
    for image, query, target in pairs:
        x, t = resized(masks[image, query][None], *gt_mask.shape[1:]), gt_mask[target][None].astype(float)
        losses += [mask_loss(x, t)[0], dice_loss(x, t)[0]]
    return losses / max(len(pairs), 1)


def test_every_layer_by_its_own_pairs(masked):
    step, given = masked(layers=3)
    loss = DETRLoss(nc=4, loss_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0, "mask": 3.0, "dice": 0.5})
    layers = []
    for boxes, logits, own in zip(step.pred_bboxes, step.pred_scores, given["masks"], strict=True):
        layers.append(of_pairs(loss.matcher(boxes, logits, *step.targets), own, given["gt_mask"]) * [3.0, 0.5])
    losses = loss(*step.plain, postfix="_x", **given)
    got = [float(losses[f"loss_{term}{aux}_x"]) for aux in ("", "_aux") for term in ("mask", "dice")]
    assert got == pytest.approx([*layers[-1], *(layers[0] + layers[1])])


@pytest.mark.parametrize("uni", [0, 1])
def test_a_shared_matching_is_shared_by_the_masks(masked, uni):
    step, given = masked(layers=3)
    loss = DETRLoss(nc=4, use_uni_match=True, uni_match_ind=uni)
    shared = loss.matcher(step.pred_bboxes[uni], step.pred_scores[uni], *step.targets)
    expected = sum(of_pairs(shared, own, given["gt_mask"]) for own in given["masks"][:2])
    losses = loss(*step.plain, **given)
    assert [float(losses["loss_mask_aux"]), float(losses["loss_dice_aux"])] == pytest.approx(expected)


@pytest.mark.parametrize("groups", [0, 2])
def test_masks_change_nothing_else(masked, groups):
    step, given = masked(groups=groups)
    loss = RTDETRDetectionLoss(nc=4)
    without, losses = loss(*step.arguments), loss(*step.arguments, **given)
    assert {key: float(losses[key]) for key in without} == {key: float(each) for key, each in without.items()}
    new = [f"loss_{term}{aux}" for aux in ("", "_aux") for term in ("mask", "dice")]
    assert [key for key in losses if key not in without] == new, "and denoising queries have no masks"


def test_gradients_reach_the_matched_masks_of_their_layers_and_no_others(masked):
    step, given = masked(layers=3, gt_groups=(2, 1))
    matching = [(np.array([1, 4]), np.array([1, 0])), (np.array([3]), np.array([2]))]
    losses = DETRLoss(nc=4)(*step.plain, match_indices=matching, **given)
    matched = [(0, 1), (0, 4), (1, 3)]
    for key, layers in {"loss_mask": [2], "loss_dice": [2], "loss_mask_aux": [0, 1], "loss_dice_aux": [0, 1]}.items():
        assert list(losses[key].gradients) == ["masks"]
        by_masks = losses[key].gradients["masks"].values
        assert by_masks.shape == given["masks"].shape
        reached = {tuple(map(int, place)) for place in np.argwhere(by_masks.any(axis=(3, 4)))}
        assert reached == {(layer, *place) for layer in layers for place in matched}


@pytest.mark.parametrize("layers", [1, 2])
def test_without_a_pair_the_losses_are_zeros_with_a_gradient(masked, layers):
    step, given = masked(layers=layers, gt_groups=(0, 0))
    losses = DETRLoss(nc=4)(*step.plain, **given)
    for key in [key for key in losses if "mask" in key or "dice" in key]:
        assert float(losses[key]) == 0
        if layers > 1 or "aux" not in key:
            assert losses[key].gradients["masks"].shape == given["masks"].shape
            assert not losses[key].gradients["masks"].values.any()


def test_one_layer_and_auxiliary_layers_on_their_own(masked):
    step, given = masked(layers=3)
    loss, gt_mask = DETRLoss(nc=4), given["gt_mask"]
    whole = loss(*step.plain, **given)
    main = loss._get_loss(step.pred_bboxes[-1], step.pred_scores[-1], *step.targets, given["masks"][-1], gt_mask, "_x")
    others = step.pred_bboxes[:-1], step.pred_scores[:-1], *step.targets
    auxiliary = loss._get_loss_aux(*others, masks=given["masks"][:-1], gt_mask=gt_mask)
    assert {key: float(each) for key, each in (main | auxiliary).items()} == {
        key if "aux" in key else f"{key}_x": float(each) for key, each in whole.items()
    }


# The matcher.


class Told(np.random.Generator):
    """A generator that was told what to draw."""

    def __new__(cls, *_):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, *points):
        super().__init__(np.random.PCG64(0))
        self.points = list(points)

    def random(self, size):
        points = self.points.pop(0)
        assert points.shape == size
        return points


def test_costs_are_the_formula_at_known_points():
    rng = np.random.default_rng(3)
    masks, gt_mask, points = rng.normal(0, 2, (4, 3, 5)), rng.random((2, 6, 4)) < 0.5, rng.random((7, 2))
    costs = mask_costs(masks, gt_mask.astype(float), points)
    x, t = sampled(masks, points), sampled(gt_mask.astype(float), points)
    assert ((t > 0) & (t < 1)).any()
    for query in range(4):
        for target in range(2):
            p = 1 / (1 + np.exp(-x[query]))
            on, off = 0.25 * (1 - p) ** 2 * -np.log(p), 0.75 * p**2 * -np.log(1 - p)
            focal = (t[target] * on + (1 - t[target]) * off).mean()
            dice = 1 - (2 * (p * t[target]).sum() + 1) / (p.sum() + t[target].sum() + 1)
            assert costs.mask[query, target] == pytest.approx(focal)
            assert costs.dice[query, target] == pytest.approx(dice)


def test_a_mask_on_the_centres_of_all_pixels_costs_its_loss():
    centres = np.array([((column + 0.5) / 4, (row + 0.5) / 3) for row in range(3) for column in range(4)])
    x, t = np.random.default_rng(0).normal(0, 2, (2, 3, 4)), np.eye(3, 4)[None]
    costs = mask_costs(x, t, centres)
    assert costs.mask[:, 0] == pytest.approx(mask_loss(x, np.repeat(t, 2, 0)))
    assert costs.dice[:, 0] == pytest.approx(dice_loss(x, np.repeat(t, 2, 0)))


def alike(step):
    """The predictions of the first layer with boxes and logits that are all alike, for masks to decide."""
    return np.full_like(step.pred_bboxes[0], 0.3), np.zeros_like(step.pred_scores[0]), *step.targets


def test_where_all_else_is_alike_the_masks_decide(masked):
    step, given = masked(size=(6, 7), gt_groups=(2, 0, 1), layers=1)
    masks = np.full_like(given["masks"][0], -9.0)
    for image, query, target in [(0, 5, 0), (0, 3, 1), (2, 4, 2)]:
        masks[image, query] = 18.0 * given["gt_mask"][target] - 9.0
    matching = HungarianMatcher(with_mask=True, num_sample_points=64)(*alike(step), masks, given["gt_mask"])
    assert [(queries.tolist(), targets.tolist()) for queries, targets in matching] == [
        ([3, 5], [1, 0]),
        ([], []),
        ([4], [2]),
    ]


@pytest.mark.parametrize("term", ["mask", "dice"])
def test_each_gain_weighs_its_own_term_on_the_points_that_were_drawn(masked, term):
    step, given = masked(gt_groups=(1,), layers=1)
    points = np.random.default_rng(8).random((9, 2))
    gains = {"class": 0.0, "bbox": 0.0, "giou": 0.0, "mask": 0.0, "dice": 0.0} | {term: 1.0}
    matcher = HungarianMatcher(gains, with_mask=True, num_sample_points=9, generator=Told(points))
    [(query, _)] = matcher(*alike(step), given["masks"][0], given["gt_mask"])
    costs = mask_costs(given["masks"][0, 0], given["gt_mask"].astype(float), points)
    assert query == getattr(costs, term)[:, 0].argmin()


def test_a_mask_that_is_not_finite_makes_the_cost_zero(masked):
    step, given = masked(gt_groups=(1,), layers=1)
    given["masks"][0, 0, 4] = np.nan
    matcher = HungarianMatcher(with_mask=True, num_sample_points=9)
    [(query, _)] = matcher(*alike(step), given["masks"][0], given["gt_mask"])
    assert query == 4, "all others cost more than nothing"


def test_the_same_generator_draws_the_same_points_from_the_whole_image():
    first, second = (draw_points(1000, np.random.default_rng(4)) for _ in range(2))
    assert (first == second).all()
    assert first.shape == (1000, 2)
    assert np.histogram2d(*first.T, bins=3, range=[[0, 1]] * 2)[0].min() > 70


def test_a_matcher_with_masks_in_the_loss_is_asked_in_every_layer(masked):
    step, given = masked(layers=2, gt_groups=(2, 1))
    loss = DETRLoss(nc=4)
    gains = {"class": 0.0, "bbox": 0.0, "giou": 0.0, "mask": 1.0, "dice": 1.0}
    points = [np.random.default_rng(seed).random((9, 2)) for seed in range(4)]
    loss.matcher = HungarianMatcher(gains, with_mask=True, num_sample_points=9, generator=Told(*points))
    losses = loss(*step.plain, **given)
    matcher = HungarianMatcher(gains, with_mask=True, num_sample_points=9, generator=Told(*points))
    order = [1, 0]  # the main layer comes first
    pairs = {
        layer: matcher(
            step.pred_bboxes[layer], step.pred_scores[layer], *step.targets, given["masks"][layer], given["gt_mask"]
        )
        for layer in order
    }
    for layer, key in ((1, "loss_mask"), (0, "loss_mask_aux")):
        assert float(losses[key]) == pytest.approx(of_pairs(pairs[layer], given["masks"][layer], given["gt_mask"])[0])


# Bad input.

WRONG = {
    "no masks of targets": ({"gt_mask": None}, ValueError, r"gt_mask is None, expected masks beside masks: both"),
    "no predicted masks": ({"masks": None}, ValueError, r"masks is None, expected masks beside gt_mask"),
    "a list": ({"masks": [[1.0]]}, TypeError, r"masks is a list, expected a NumPy array"),
    "text": ({"gt_mask": np.array(["a"])}, TypeError, r"gt_mask has dtype <U1, expected real numbers"),
    "too few queries": (
        {"masks": np.zeros((3, 3, 5, 4, 5))},
        ValueError,
        r"masks has shape \(3, 3, 5, 4, 5\), expected \(layers, images, queries, height, width\) = \(3, 3, 6, \.\.\.\)",
    ),
    "an axis too few": ({"masks": np.zeros((3, 3, 6, 4))}, ValueError, r"masks has shape \(3, 3, 6, 4\)"),
    "no pixels": ({"masks": np.zeros((3, 3, 6, 0, 5))}, ValueError, r"masks has shape .* at least 1 x 1"),
    "too few targets": ({"gt_mask": np.zeros((4, 6, 7))}, ValueError, r"gt_mask has shape \(4, 6, 7\), expected \(5 t"),
    "targets without pixels": ({"gt_mask": np.zeros((5, 6, 0))}, ValueError, r"gt_mask has shape .* at least 1 x 1"),
    "a value between": ({"gt_mask": np.full((5, 6, 7), 0.5)}, ValueError, r"gt_mask has 0\.5, expected 0 and 1"),
    "a value of 255": ({"gt_mask": np.full((5, 6, 7), 255)}, ValueError, r"gt_mask has 255, expected 0 and 1"),
}  # fmt: skip
GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("name", WRONG)
def test_masks_that_do_not_fit_are_refused(masked, name):
    step, given = masked()
    change, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        RTDETRDetectionLoss(nc=4)(*step.arguments, **(given | change))


@pytest.mark.parametrize(("gain", "kind", "message"), [
    (GAINS, KeyError, r"loss_gain has the keys .*'mask' is missing, needed for masks"),
    (GAINS | {"mask": 1.0}, KeyError, r"'dice' is missing"),
    (GAINS | {"mask": math.nan, "dice": 1.0}, ValueError, r"loss_gain\['mask'\] is nan"),
])  # fmt: skip
def test_gains_that_masks_need(masked, gain, kind, message):
    step, given = masked()
    loss = DETRLoss(nc=4, loss_gain=gain)
    loss(*step.plain)
    with pytest.raises(kind, match=message):
        loss(*step.plain, **given)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("options", "kind", "message"), [
    ({"cost_gain": GAINS}, KeyError, r"cost_gain has the keys .*'mask' is missing, needed for with_mask"),
    ({"num_sample_points": 0}, ValueError, r"num_sample_points is 0, expected at least 1"),
    ({"num_sample_points": 2.5}, TypeError, r"num_sample_points is 2\.5, expected an integer"),
    ({"generator": 3}, TypeError, r"generator is a int, expected a numpy\.random\.Generator or None"),
])  # fmt: skip
def test_a_matcher_with_masks_and_options_that_do_not_fit(options, kind, message):
    with pytest.raises(kind, match=message):
        HungarianMatcher(with_mask=True, **options)


def test_a_matcher_with_masks_needs_masks(masked):
    step, given = masked()
    layer = step.pred_bboxes[0], step.pred_scores[0], *step.targets
    with pytest.raises(ValueError, match="masks is None, expected logits for each query, as with_mask is set"):
        HungarianMatcher(with_mask=True)(*layer)
    with pytest.raises(ValueError, match="gt_mask is None, expected masks beside masks"):
        HungarianMatcher(with_mask=True)(*layer, masks=given["masks"][0])
