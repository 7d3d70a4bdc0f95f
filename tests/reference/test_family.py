"""RT-DETR's convention by hand: its normaliser, and its keys in every spelling."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import RTDETR, ULTRALYTICS, Criterion, Inputs, LossConfig
from detr_conformance.reference.inputs import DenoisingInputs
from detr_conformance.reference.keys import Call, LayerKeys, SummedKeys
from detr_conformance.reference.matcher import Targets

BOX = (0.5, 0.5, 0.2, 0.2)


def inputs(queries, targets, logit, layers=1) -> Inputs:
    """One image, one class; every query has this logit, and every box is the same."""
    boxes, logits = np.full((layers, 1, queries, 4), BOX), np.full((layers, 1, queries, 1), logit)
    return Inputs(boxes, logits, Targets(np.full((targets, 4), BOX), np.zeros(targets, dtype=int), (targets,)))


def class_loss(spec, given, **options) -> float:
    return float(Criterion(spec, LossConfig(nc=1, **options))(given)["loss_class"])


@pytest.mark.parametrize(("queries", "targets"), [(2, 4), (4, 4), (5, 2), (3, 0)])
@pytest.mark.parametrize("options", [{"use_fl": False}, {}, {"use_vfl": True}], ids=["bce", "focal", "varifocal"])
def test_rtdetr_divides_every_class_loss_by_the_number_of_targets(queries, targets, options):
    config, pairs = LossConfig(nc=1, **options), min(queries, targets)
    term = RTDETR.class_terms[config.classification]
    matched, background = (term.closed_form(np.array([0.3]), target, 1.0, config) for target in (0, None))
    total = pairs * matched + (queries - pairs) * background
    assert class_loss(RTDETR, inputs(queries, targets, 0.3), **options) == pytest.approx(
        total / max(targets, 1), rel=1e-6
    )


def test_cross_entropy_of_two_queries_and_four_targets_is_not_halved_once_more():
    """Issue V2: dividing by the queries and then scaling by pairs over targets gave half of what is right."""
    logit = -math.log(math.expm1(2 * 1.9846))  # softplus(-logit) = 2 * 1.9846, twice, over four targets
    loss = class_loss(RTDETR, inputs(2, 4, logit), use_fl=False)
    assert loss == pytest.approx(1.9846)
    assert class_loss(ULTRALYTICS, inputs(2, 4, logit), use_fl=False) == pytest.approx(2 * 1.9846, rel=1e-5)


@pytest.mark.parametrize("term", ["bbox", "giou"])
def test_rtdetr_divides_the_box_losses_by_the_targets_and_the_base_by_the_pairs(term):
    given = inputs(2, 4, 0.0)
    given.boxes[..., 0] += 0.1
    by_targets, by_pairs = (
        float(Criterion(spec, LossConfig(nc=1))(given)[f"loss_{term}"]) for spec in (RTDETR, ULTRALYTICS)
    )
    assert by_targets == pytest.approx(by_pairs / 2, rel=1e-5)


# Keys.

CALLS = [Call(*each) for each in product((1, 2, 5), (True, False), (0, 1, 4), ("varifocal", "focal", "bce"))]


@pytest.mark.parametrize("keys", [SummedKeys(), RTDETR.keys], ids=["sums", "layers"])
def test_every_expected_key_is_part_of_a_sum(keys):
    for call in CALLS:
        for expected in keys.expected(call):
            sums = {keys.canonical(key, call) for key in expected}
            assert {"loss_class", "loss_bbox", "loss_giou"} <= sums
            assert None not in sums
            assert call.aux_loss or "loss_class_aux" not in sums


@pytest.mark.parametrize(
    ("classification", "names"), [("varifocal", {"vfl"}), ("focal", {"focal", "vfl"}), ("bce", {"bce"})]
)
def test_rtdetr_names_class_losses_by_their_kind_and_the_encoder_in_two_ways(classification, names):
    expected = RTDETR.keys.expected(Call(3, True, 0, classification))
    spelt = {frozenset(key for key in keys if "bbox" not in key and "giou" not in key) for keys in expected}
    assert spelt == {
        frozenset(f"loss_{name}{part}" for part in ("", "_aux_0", encoder))
        for name in names
        for encoder in ("_aux_1", "_enc_0")
    }


@pytest.mark.parametrize(
    ("key", "denoising_layers", "total"),
    [
        ("loss_vfl", 0, "loss_class"),
        ("loss_focal_aux_2", 0, "loss_class_aux"),
        ("loss_bce_enc_0", 0, "loss_class_aux"),
        ("loss_bbox_aux_4", 0, "loss_bbox_aux"),
        ("loss_bbox_enc_0", 0, "loss_bbox_aux"),
        ("loss_giou_dn_1", 2, "loss_giou_dn"),
        ("loss_giou_dn_0", 2, "loss_giou_aux_dn"),
        ("loss_class", 0, None),
        ("loss_vfl_aux", 0, None),
        ("loss_vfl_enc", 0, None),
        ("cardinality_error", 0, None),
    ],
)
def test_a_key_of_one_layer_is_part_of_a_sum_or_means_nothing(key, denoising_layers, total):
    assert RTDETR.keys.canonical(key, Call(6, True, denoising_layers, "varifocal")) == total


def test_a_key_of_the_base_is_a_sum_itself():
    call = Call(3, True, 1, "focal")
    assert SummedKeys().canonical("loss_class_aux_dn", call) == "loss_class_aux_dn"
    assert SummedKeys().canonical("loss_vfl", call) is None


@pytest.mark.parametrize("spec", [ULTRALYTICS, RTDETR], ids=lambda spec: spec.name)
@pytest.mark.parametrize("with_denoising", [True, False])
def test_what_is_returned_has_the_expected_keys_and_adds_up_to_the_sums(draw_step, spec, with_denoising):
    step = draw_step(layers=3, groups=2)
    meta = step.dn_meta
    dn = DenoisingInputs(step.dn_bboxes[:2], step.dn_scores[:2], meta["dn_pos_idx"], meta["dn_gt_idx"], 2)
    given = Inputs(step.pred_bboxes, step.pred_scores, Targets(*step.targets), dn if with_denoising else None)
    criterion, call = Criterion(spec, LossConfig(nc=4)), Call(3, True, 2 * with_denoising, "focal")
    sums, named = criterion(given), criterion(given, named=True)
    assert set(named) in spec.keys.expected(call)
    for key, total in sums.items():
        parts = [float(loss) for own, loss in named.items() if spec.keys.canonical(own, call) == key]
        assert sum(parts) == pytest.approx(float(total))


def test_a_table_without_class_names_says_class():
    assert LayerKeys().expected(Call(1, True, 0, "focal")) == [frozenset({"loss_class", "loss_bbox", "loss_giou"})]
