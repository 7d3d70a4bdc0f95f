"""The losses of masks as terms of a spec: those of the class API, over the targets, and in the main layer alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, Criterion, Inputs, LossConfig
from detr_conformance.reference.detr_loss import DETRLoss
from detr_conformance.reference.matcher import Targets
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


def paired(matching):
    """The spec with this matching in every layer."""
    return replace(SPEC, pairing=lambda _match, layers, _config: [Pairs.same(matching)] * layers)


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
