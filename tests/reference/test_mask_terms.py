"""The losses of masks as terms of a spec: on pixels those of the class API, in the main layer; and at points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, Criterion, Inputs, LossConfig, MatcherConfig
from detr_conformance.reference.detr_loss import DETRLoss
from detr_conformance.reference.matcher import MaskInputs, Targets
from detr_conformance.reference.pairing import Pairs

SPEC = FAMILY["detr-masks"]
GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "mask": 3.0, "dice": 0.5}
rng = np.random.default_rng(3)
MASKS = rng.normal(0.0, 2.0, (2, 2, 3, 2, 3))
OBJECTS = (rng.random((3, 4, 5)) < 0.4).astype(np.float64)
BOXES = np.concatenate([rng.uniform(0.3, 0.7, (2, 2, 3, 2)), rng.uniform(0.1, 0.3, (2, 2, 3, 2))], axis=-1)
TARGETS = Targets(np.tile([0.5, 0.5, 0.2, 0.2], (3, 1)), np.zeros(3, dtype=np.int64), (1, 2))
MATCHING = [(np.array([2]), np.array([0])), (np.array([0, 1]), np.array([2, 1]))]
PAIRS = ((0, 2, 0), (1, 0, 2), (1, 1, 1))
"""Image, query and target."""


def inputs(**changes):
    logits = np.zeros((2, 2, 3, 3))
    given = Inputs(BOXES, logits, TARGETS, further={"masks": MASKS}, constants={"gt_masks": OBJECTS})
    return replace(given, **changes)


def paired(matching, spec=SPEC):
    """The spec with this matching in every layer."""
    return replace(spec, pairing=lambda _match, layers, _config: [Pairs.same(matching)] * layers)


def losses(named=False, gain=GAIN, matching=MATCHING, **changes):
    return Criterion(paired(matching), LossConfig(nc=2, loss_gain=gain, class_loss="softmax"))(
        inputs(**changes), named=named
    )


def test_they_are_those_of_the_class_api_over_all_targets():
    api = DETRLoss(2, loss_gain=GAIN)
    queries, targets = [pair[:2] for pair in PAIRS], [pair[2] for pair in PAIRS]
    matched = np.stack([MASKS[-1, image, query] for image, query in queries])
    expected, found = api._get_loss_mask(matched, OBJECTS[targets]), losses()
    for term in ("mask", "dice"):
        assert float(found[f"loss_{term}"]) == pytest.approx(float(expected[f"loss_{term}"]), rel=1e-14)
        gradient = found[f"loss_{term}"].gradients["pred_masks"].values
        own = expected[f"loss_{term}"].gradients["masks"].values
        assert np.allclose(
            np.stack([gradient[-1, image, query] for image, query in queries]), own, rtol=1e-13, atol=1e-18
        )


def test_no_other_mask_and_no_other_prediction_has_a_gradient():
    for term in ("mask", "dice"):
        loss = losses()[f"loss_{term}"]
        gradient = loss.gradients["pred_masks"].values.copy()
        for image, query, _ in PAIRS:
            gradient[-1, image, query] = 0.0
        assert not gradient.any()
        assert set(loss.gradients) == {"pred_masks"}


def test_the_main_layer_alone_has_them():
    assert {key for key in losses(named=True) if "mask" in key or "dice" in key} == {"loss_mask", "loss_dice"}
    assert float(losses()["loss_mask_aux"]) == float(losses()["loss_dice_aux"]) == 0.0


def test_they_are_divided_by_the_targets_also_where_some_have_no_query():
    fewer = [(np.array([2]), np.array([0])), (np.array([0]), np.array([2]))]
    two, one = losses(matching=fewer), losses(matching=[fewer[0], (fewer[0][0][:0], fewer[0][0][:0])])
    alone = losses(matching=[(fewer[0][0][:0], fewer[0][0][:0]), fewer[1]])
    for key in ("loss_mask", "loss_dice"):
        assert float(two[key]) == pytest.approx(float(one[key]) + float(alone[key]), rel=1e-14)


def test_a_gain_that_is_not_named_is_1():
    named, unnamed = losses(), losses(gain={name: GAIN[name] for name in ("class", "bbox", "giou")})
    assert float(named["loss_mask"]) == 3.0 * float(unnamed["loss_mask"])
    assert float(named["loss_dice"]) == 0.5 * float(unnamed["loss_dice"])


def test_a_call_without_masks_has_no_such_loss():
    assert not [key for key in losses(further={}, constants={}) if "mask" in key or "dice" in key]


POINTED = FAMILY["maskdino"]
LOSS_POINTS, COST_POINTS = rng.random((3, 5, 2)), rng.random((2, 4, 2))


def at_points(matching=MATCHING, **changes):
    constants = {"gt_masks": OBJECTS, "loss_points": LOSS_POINTS, "cost_points": COST_POINTS}
    config = LossConfig(nc=3, loss_gain=GAIN)
    return Criterion(paired(matching, POINTED), config)(inputs(constants=constants, **changes), named=True)


def of_pair(layer, image, query, target, points):
    """Logits and mask at points, by a sum over all pixels of both."""
    found = []
    for mask in (MASKS[layer, image, query], OBJECTS[target]):
        place = [points[:, axis] * size - 0.5 for axis, size in ((1, mask.shape[0]), (0, mask.shape[1]))]
        shares = [
            np.maximum(0.0, 1.0 - np.abs(each[:, None] - np.arange(size)))
            for each, size in zip(place, mask.shape, strict=True)
        ]
        found.append(np.einsum("pr,rc,pc->p", shares[0], mask, shares[1]))
    return found


def entropy_and_dice(x, t):
    p = 1.0 / (1.0 + np.exp(-x))
    entropy = np.mean(-t * np.log(p) - (1.0 - t) * np.log(1.0 - p))
    return entropy, 1.0 - (2.0 * np.sum(p * t) + 1.0) / (np.sum(p) + np.sum(t) + 1.0)


def test_at_points_every_layer_has_both_losses_of_each_pair_at_the_points_of_its_target():
    found = at_points()
    for layer, suffix in enumerate(("_0", "")):
        pairs = [entropy_and_dice(*of_pair(layer, *pair, LOSS_POINTS[pair[2]])) for pair in PAIRS]
        for term, sums in zip(("mask", "dice"), np.sum(pairs, axis=0), strict=True):
            assert float(found[f"loss_{term}{suffix}"]) == pytest.approx(GAIN[term] * sums / 3, rel=1e-13)


def test_at_points_masks_have_gradients_and_nothing_else_has():
    for term in ("mask", "dice"):
        gradients = at_points()[f"loss_{term}"].gradients
        assert set(gradients) == {"pred_masks"}
        step, pixel = 1e-6, (1, 0, 2, 0, 1)
        moved = [MASKS.copy(), MASKS.copy()]
        for array, sign in zip(moved, (1.0, -1.0), strict=True):
            array[pixel] += sign * step
        more, less = (float(at_points(further={"masks": each})[f"loss_{term}"]) for each in moved)
        assert gradients["pred_masks"].values[pixel] == pytest.approx((more - less) / (2 * step), rel=1e-6, abs=1e-9)


def test_without_pairs_both_losses_at_points_are_0():
    nothing = np.zeros(0, dtype=np.int64)
    found = at_points([(nothing, nothing)] * 2)
    assert [float(found[f"loss_{term}"]) for term in ("mask", "dice")] == [0.0, 0.0]


def test_masks_cost_what_their_losses_are_at_the_points_of_the_image():
    costs = POINTED.matcher.mask_costs(MASKS[0, 1], OBJECTS[1:], COST_POINTS[1])
    for query in range(3):
        for target in range(2):
            x, t = of_pair(0, 1, query, 1 + target, COST_POINTS[1])
            expected = entropy_and_dice(x, t)
            assert (costs.mask[query, target], costs.dice[query, target]) == pytest.approx(expected, rel=1e-13)


def test_a_matcher_adds_what_masks_cost_with_the_gains_that_are_named():
    given = MaskInputs(MASKS[0], OBJECTS, COST_POINTS)
    own = TARGETS.of_image(1)
    costs = POINTED.matcher.mask_costs(MASKS[0, 1], OBJECTS[own], COST_POINTS[1])
    gain = {"class": 0.0, "bbox": 0.0, "giou": 0.0, "dice": 3.0}
    found = POINTED.matcher.cost_of_masks(MatcherConfig(cost_gain=gain), given, 1, own)
    assert np.array_equal(found, 3.0 * costs.dice)
    assert POINTED.matcher.cost_of_masks(MatcherConfig(), given, 1, own) is None
    assert FAMILY["deformable"].matcher.cost_of_masks(MatcherConfig(cost_gain=gain), given, 1, own) is None
