"""Methods and attributes of the class API are replaced and overridden: what that changes, the next call shows."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.reference import DETRLoss, RTDETRDetectionLoss

METHODS = {
    "_get_loss": ("class", "bbox", "giou"),
    "_get_loss_class": ("class",),
    "_get_loss_bbox": ("bbox", "giou"),
    "_get_loss_aux": ("class_aux", "bbox_aux", "giou_aux"),
}


def doubling(base, name):
    """A subclass of which one method returns twice its losses."""

    def doubled(self, *arguments, **options):
        return {key: loss * 2.0 for key, loss in getattr(base, name)(self, *arguments, **options).items()}

    return type("Doubling", (base,), {name: doubled})


def changed(before, after):
    """What is twice as large, by key; all else has to be the same, gradients included."""
    factors = {key: float(after[key]) / float(loss) if float(loss) else 1.0 for key, loss in before.items()}
    for key, loss in before.items():
        assert factors[key] == pytest.approx(1.0) or factors[key] == pytest.approx(2.0)
        for name, gradient in loss.gradients.items():
            np.testing.assert_allclose(after[key].gradients[name].values, factors[key] * gradient.values, rtol=1e-12)
    return {key for key, factor in factors.items() if factor > 1.5}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{"use_vfl": True}, {"use_fl": False}])
def test_an_overridden_method_is_what_forward_calls(draw_step, name, options):
    step = draw_step(layers=3, gt_groups=(2, 1), groups=2)
    before = RTDETRDetectionLoss(nc=4, **options)(*step.arguments)
    after = doubling(RTDETRDetectionLoss, name)(nc=4, **options)(*step.arguments)
    terms = METHODS[name]
    parts = [f"loss_{term}{part}" for term in terms for part in ([""] if "aux" in name else ["", "_aux"])]
    assert changed(before, after) == {f"{key}{suffix}" for key in parts for suffix in ("", "_dn")}


def test_any_callable_takes_the_place_of_a_loss_object(draw_step):
    step, loss = draw_step(layers=2), DETRLoss(nc=4)
    before, focal = loss(*step.plain), loss.fl
    loss.fl = lambda pred, label: focal(pred, label) * 2.0
    assert changed(before, loss(*step.plain)) == {"loss_class", "loss_class_aux"}


def test_each_loss_object_has_its_own_options(draw_step):
    step, loss = draw_step(layers=2, gt_groups=(0, 0)), DETRLoss(nc=4, use_vfl=True)
    before = float(loss(*step.plain)["loss_class"])
    loss.vfl.gamma = 4.0
    assert float(loss(*step.plain)["loss_class"]) == before  # without a target focal takes its place
    loss.fl.gamma = 4.0
    assert float(loss(*step.plain)["loss_class"]) < before


def test_another_matcher_matches_every_layer(draw_step):
    step, loss = draw_step(layers=2, gt_groups=(1, 1)), DETRLoss(nc=4)
    last = step.pred_bboxes.shape[2] - 1
    loss.matcher = lambda *_: [(np.array([last]), np.array([image])) for image in range(2)]
    boxes = step.pred_bboxes[:, :, last]
    wanted = 5.0 * np.abs(boxes - step.batch["bboxes"]).sum(axis=(1, 2)) / 2
    losses = loss(*step.plain)
    assert [float(losses["loss_bbox_aux"]), float(losses["loss_bbox"])] == pytest.approx(wanted)
