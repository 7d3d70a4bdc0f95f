"""FGL and DDF inside the loss of a step: which layers have them, what they look at, and what is a constant."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, Criterion, Inputs, LossConfig, replace_in
from detr_conformance.reference.distribution_terms import Distillation, of_own_queries
from detr_conformance.reference.inputs import DenoisingInputs
from detr_conformance.reference.matcher import Targets

GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
OPTIONS = LossConfig(nc=3, use_vfl=True, loss_gain=GAIN)
DFINE = FAMILY["dfine"]
LAYERS, IMAGES, QUERIES, SLOTS = 4, 2, 5, 8


def boxes(rng, *shape):
    return np.concatenate([rng.uniform(0.3, 0.7, (*shape, 2)), rng.uniform(0.1, 0.4, (*shape, 2))], axis=-1)


def step(seed=0):
    """A step with three targets, and denoising queries in two groups of two slots each way."""
    rng = np.random.default_rng(seed)
    targets = Targets(boxes(rng, 3), np.array([0, 2, 1]), (2, 1))
    pos_idx, gt_idx = (np.array([0, 1, 4, 5]), np.array([0, 4])), (np.array([0, 1]), np.array([2]))
    denoising = DenoisingInputs(
        boxes(rng, LAYERS - 1, IMAGES, SLOTS),
        rng.normal(size=(LAYERS - 1, IMAGES, SLOTS, 3)),
        pos_idx,
        gt_idx,
        2,
        {"corners": rng.normal(0, 2, (LAYERS - 1, IMAGES, SLOTS, 4, 33))},
        {"references": boxes(rng, IMAGES, SLOTS)},
    )
    return Inputs(
        boxes(rng, LAYERS, IMAGES, QUERIES),
        rng.normal(size=(LAYERS, IMAGES, QUERIES, 3)),
        targets,
        denoising,
        further={"corners": rng.normal(0, 2, (LAYERS, IMAGES, QUERIES, 4, 33))},
        constants={"references": boxes(rng, IMAGES, QUERIES)},
    )


def losses(inputs, spec=DFINE, named=True):
    return Criterion(spec, OPTIONS)(inputs, named)


def test_the_decoder_s_layers_have_both_and_the_last_ddf_is_0():
    keys = losses(step())
    localised = [key for key in keys if key.startswith("loss_fgl")]
    assert localised == [f"loss_fgl{part}" for part in ("", "_aux_0", "_aux_1", "_dn_0", "_dn_1", "_dn_2")]
    assert all(float(keys[key]) > 0 for key in localised)
    assert [float(keys[key]) for key in ("loss_ddf", "loss_ddf_dn_2")] == pytest.approx([0, 0], abs=1e-12)
    assert all(
        float(keys[key]) > 0.01 for key in ("loss_ddf_aux_0", "loss_ddf_aux_1", "loss_ddf_dn_0", "loss_ddf_dn_1")
    )
    assert not {key for key in keys if "enc" in key and ("fgl" in key or "ddf" in key)}


def test_without_distributions_there_are_neither():
    bare = replace(step(), further={}, denoising=replace(step().denoising, further={}))
    assert not {key for key in losses(bare) if "fgl" in key or "ddf" in key}


def test_what_stands_at_the_encoder_s_layer_belongs_to_nobody():
    inputs = step()
    other = {"corners": np.concatenate([np.ones((1, IMAGES, QUERIES, 4, 33)), inputs.further["corners"][1:]])}
    once, again = losses(inputs), losses(replace(inputs, further=other))
    assert {key: float(each) for key, each in once.items()} == {key: float(each) for key, each in again.items()}


def test_gains_are_those_of_the_recipe_unless_the_options_name_others():
    uniform = replace(step(), further={"corners": np.zeros((LAYERS, IMAGES, QUERIES, 4, 33))})
    exact = np.tile(
        uniform.targets.boxes[[0, 1, 0, 1, 1, 2, 2, 2, 2, 2]].reshape(1, IMAGES, QUERIES, 4), (LAYERS, 1, 1, 1)
    )
    uniform = replace(uniform, boxes=exact)
    assert float(losses(uniform)["loss_fgl"]) == pytest.approx(0.15 * 4 * math.log(33))
    own = Criterion(DFINE, replace(OPTIONS, loss_gain={**GAIN, "fgl": 3.0}))(uniform)
    assert float(own["loss_fgl"]) == pytest.approx(3.0 * 4 * math.log(33))


def test_boxes_and_classes_and_the_teacher_are_constants():
    sums = losses(step(), named=False)
    for key in ("loss_fgl", "loss_fgl_aux", "loss_ddf_aux", "loss_fgl_aux_dn", "loss_ddf_aux_dn"):
        assert set(sums[key].gradients) == {"dn_corners" if key.endswith("_dn") else "pred_corners"}
    for key, name in (("loss_ddf_aux", "pred_corners"), ("loss_ddf_aux_dn", "dn_corners")):
        gradient = sums[key].gradients[name]
        assert not gradient.values[-1].any()
        assert gradient.values[-2].any()


def test_denoising_queries_are_weighed_by_the_counts_of_ordinary_ones():
    inputs = step()
    own = losses(inputs, replace_in(DFINE, "extra_terms.ddf.total", Distillation(counts=of_own_queries)))
    ours = losses(inputs)
    assert float(own["loss_ddf_aux_0"]) == float(ours["loss_ddf_aux_0"])
    assert float(own["loss_ddf_dn_0"]) != pytest.approx(float(ours["loss_ddf_dn_0"]))


def test_a_batch_without_targets_distils_by_confidence_alone():
    inputs = step()
    empty = replace(inputs, targets=Targets(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), (0, 0)), denoising=None)
    found = losses(empty)
    assert float(found["loss_fgl"]) == 0
    assert float(found["loss_ddf_aux_0"]) > 0
