"""How judging asks specs: names of losses, and the RT-DETR convention against a calculation by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import CLASSIFICATION, LossCase
from detr_conformance.properties.divisors import denoising_divisor, divisor
from detr_conformance.properties.given_case import undefined
from detr_conformance.properties.port_under_test import PortUnderTest, call_of, spec_of
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain, loss_cases
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS, Criterion
from detr_conformance.reference.keys import Call, SummedKeys

from .sample_cases import denoising, drawn_cases, fitting, grid_of_boxes, grid_of_logits, small_case

CALLS = [Call(*each) for each in product((1, 2, 5), (True, False), (0, 1, 4), CLASSIFICATION)]


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_every_expected_key_belongs_to_a_sum(spec):
    for call, keys in ((each, keys) for each in CALLS for keys in spec.keys.expected(each)):
        sums = {spec.keys.canonical(key, call) for key in keys}
        known = SummedKeys().expected(call)[0] | {f"loss_{term}_aux_dn" for term in ("class", "bbox", "giou")}
        assert sums <= known, call
        assert {"loss_class", "loss_bbox", "loss_giou"} <= sums, call
        assert call.aux_loss or "loss_class_aux" not in sums, call


@pytest.mark.parametrize("kind", CLASSIFICATION)
@pytest.mark.parametrize("parts", [{}, {"denoising": None}], ids=["denoising", "no denoising"])
def test_the_reference_returns_keys_that_its_spec_expects(kind, parts):
    for spec in FAMILY.values():
        if kind in spec.class_terms:
            assert_expected_keys(spec, fitting(spec, small_case(**parts).change(**CLASSIFICATION[kind])))


def assert_expected_keys(spec, case):
    __tracebackhide__ = True
    assert frozenset(ReferencePort(spec).loss(case).losses) in spec.keys.expected(call_of(case, spec))


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_losses_without_bounds_are_the_same_numbers_and_no_bound_is_known(spec):
    case = drawn_cases(loss_cases(Request(denoising="sometimes"), Domain.of(PortUnderTest(ReferencePort(spec)))), 3)[-1]
    with_bounds, without = (
        Criterion(spec, case.config)(replace(oracle.inputs_of(case), bounded=bounded)) for bounded in (True, False)
    )
    assert {key: float(loss) for key, loss in without.items()} == {
        key: float(loss) for key, loss in with_bounds.items()
    }
    assert all(np.isnan(loss.magnitude) for loss in without.values())
    for key, loss in with_bounds.items():
        assert {name: each.tolist() for name, each in without[key].gradients.items()} == {
            name: each.tolist() for name, each in loss.gradients.items()
        }


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_a_spec_is_found_by_its_name_and_explains_each_difference(spec):
    port = ReferencePort()
    port.profile = spec.name
    assert spec_of(port) is spec
    said = [each.sentence for each in spec.differences.values()]
    assert all(sentence.endswith(".") for sentence in [*said, *spec.undefined.values()])


def test_a_port_may_bring_a_spec_of_its_own():
    own = replace(RTDETR, name="ours")
    assert PortUnderTest(ReferencePort(own)).spec is own
    assert PortUnderTest(ReferencePort(own), ULTRALYTICS).spec is ULTRALYTICS


def test_the_base_spec_has_no_difference_and_leaves_nothing_open():
    assert not ULTRALYTICS.differences
    assert not ULTRALYTICS.undefined


NAMES = {"varifocal": ("vfl",), "focal": ("focal", "vfl"), "bce": ("bce",)}


@pytest.mark.parametrize("kind", NAMES)
def test_layers_are_counted_one_by_one_and_the_encoder_may_have_a_name_of_its_own(kind):
    call = Call(3, aux_loss=True, denoising_layers=2, classification=kind)
    of_class = [
        {key for key in keys if not key.startswith(("loss_bbox", "loss_giou"))} for keys in RTDETR.keys.expected(call)
    ]
    assert of_class == [
        {f"loss_{name}{part}" for part in ("", "_aux_0", last, "_dn_0", "_dn_1")}
        for name in NAMES[kind]
        for last in ("_aux_1", "_enc_0")
    ]


@pytest.mark.parametrize(
    ("key", "layers", "total"),
    [
        ("loss_vfl", 0, "loss_class"),
        ("loss_focal", 0, "loss_class"),
        ("loss_bce_aux_0", 0, "loss_class_aux"),
        ("loss_vfl_enc_0", 0, "loss_class_aux"),
        ("loss_bbox_aux_4", 0, "loss_bbox_aux"),
        ("loss_giou_dn_1", 2, "loss_giou_dn"),
        ("loss_giou_dn_0", 2, "loss_giou_aux_dn"),
        ("loss_class", 0, None),
        ("loss_vfl_aux", 0, None),
        ("loss_bbox_pre", 0, None),
        ("cardinality_error", 0, None),
    ],
)
def test_a_key_of_one_layer_is_part_of_a_sum_or_means_nothing(key, layers, total):
    assert RTDETR.keys.canonical(key, Call(6, True, layers, "varifocal")) == total


def test_a_key_of_the_base_spec_is_a_sum_itself():
    call = Call(2, True, 1, "varifocal")
    assert ULTRALYTICS.keys.canonical("loss_class_aux_dn", call) == "loss_class_aux_dn"
    assert ULTRALYTICS.keys.canonical("loss_vfl", call) is None


FEW_QUERIES = {"pred_bboxes": grid_of_boxes(2, 3, 1), "pred_scores": grid_of_logits(2, 3, 1, 2)}


@pytest.mark.parametrize(
    ("spec", "kind", "by"),
    [
        (ULTRALYTICS, "varifocal", (2, 6)),  # pairs
        (ULTRALYTICS, "bce", (1, 9)),  # queries, and slots
        (RTDETR, "varifocal", (3, 6)),  # targets, and pairs of all groups
        (RTDETR, "bce", (3, 6)),
    ],
)
def test_a_divisor_is_what_the_spec_divides_by(spec, kind, by):
    case = small_case(**FEW_QUERIES).change(**CLASSIFICATION[kind])
    assert (divisor(case, spec, "class"), denoising_divisor(case, spec, "class")) == by
    assert divisor(case, spec, "giou") == (2 if spec is ULTRALYTICS else 3)


def test_what_a_spec_leaves_open_is_named():
    boxes = grid_of_boxes(1, 3, 4)
    boxes[0, 0, 0, 2] = 0.0
    case = small_case(pred_bboxes=boxes, pred_scores=grid_of_logits(1, 3, 4, 2))
    assert undefined(case, ULTRALYTICS) == []
    assert undefined(case, RTDETR) == [
        "boxes without area",
        "fewer than 2 layers",
        "1 layers of denoising queries instead of 0",
    ]


def test_a_slot_that_no_group_fills_is_named_where_groups_share_all_slots():
    deformable = FAMILY["deformable"]
    assert undefined(small_case(), deformable) == [
        "1 layers of denoising queries instead of 2",
        "slots of denoising queries that no group fills, or groups of several sizes",
    ]
    even = denoising(bboxes=grid_of_boxes(2, 3, 8), scores=grid_of_logits(2, 3, 8, 2))
    assert undefined(small_case(denoising=even), deformable) == []


# The convention by hand: one layer, with the pairs given.


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """IoU and GIoU of two boxes, without any eps."""
    low, high = (np.array([one[:2] + side * one[2:] / 2 for one in (a, b)]) for side in (-1, 1))
    inter = np.prod(np.maximum(high.min(axis=0) - low.max(axis=0), 0))
    union = a[2] * a[3] + b[2] * b[3] - inter
    hull = np.prod(high.max(axis=0) - low.min(axis=0))
    return inter / union, inter / union - (hull - union) / hull


def one_layer(
    boxes: np.ndarray, logits: np.ndarray, case: LossCase, pairs: list[tuple[int, int, int]], normaliser: int
) -> tuple[float, float, float, np.ndarray]:
    """Varifocal, L1 and GIoU loss, the first's gradient with respect to logits; pairs are (image, query, target)."""
    gain, alpha, gamma = case.config.loss_gain, case.config.alpha, case.config.gamma
    q, y = np.zeros(logits.shape), np.zeros(logits.shape)
    l1 = giou_loss = 0.0
    for image, query, target in pairs:
        iou, giou = overlap(boxes[image, query], case.gt_bboxes[target])
        y[image, query, case.gt_cls[target]], q[image, query, case.gt_cls[target]] = 1, iou
        l1 += np.abs(boxes[image, query] - case.gt_bboxes[target]).sum()
        giou_loss += 1 - giou
    p = sigmoid(logits)
    weight = alpha * p**gamma * (1 - y) + q
    entropy = -q * np.log(p) - (1 - q) * np.log(1 - p)
    n = max(normaliser, 1)
    slope = gain["class"] * weight * (p - q) / n
    return gain["class"] * (weight * entropy).sum() / n, gain["bbox"] * l1 / n, gain["giou"] * giou_loss / n, slope


def expected(case: LossCase) -> dict:
    assert oracle.matching_is_certain(case, RTDETR)
    return oracle.expected_losses(case, RTDETR)


def assert_equal(losses: dict, suffix: str, by_hand: tuple[float, float, float, np.ndarray]) -> None:
    values = [float(losses[f"loss_{term}{suffix}"]) for term in ("class", "bbox", "giou")]
    assert values == pytest.approx(by_hand[:3], rel=1e-12)


def varifocal(**changes: object) -> LossCase:
    options = {"use_vfl": True, "alpha": 0.75, "gamma": 2.0, "loss_gain": {"class": 1.25, "bbox": 3.0, "giou": 0.75}}
    return small_case(**changes).change(**options)


def right_away(case: LossCase, queries: list[tuple[int, int, int]]) -> LossCase:
    """The case with these (image, query, target) predicted almost right, so that the matching is plain to see."""
    boxes, logits = case.pred_bboxes.copy(), case.pred_scores.copy()
    for image, query, target in queries:
        boxes[:, image, query] = case.gt_bboxes[target] + 2.0**-8
        logits[:, image, query, case.gt_cls[target]] = 5.5
    return case.change(pred_bboxes=boxes, pred_scores=logits)


PAIRS = [(0, 2, 0), (2, 1, 1), (2, 3, 2)]


def test_with_enough_queries_the_convention_is_the_calculation_by_hand():
    case = right_away(varifocal(denoising=None), PAIRS)
    losses = expected(case)
    by_hand = one_layer(case.pred_bboxes[1], case.pred_scores[1], case, PAIRS, normaliser=3)
    assert_equal(losses, "", by_hand)
    assert_equal(losses, "_aux", one_layer(case.pred_bboxes[0], case.pred_scores[0], case, PAIRS, normaliser=3))
    assert losses["loss_class"].gradients["pred_scores"].values[1] == pytest.approx(by_hand[3], rel=1e-12)


@pytest.mark.parametrize("shared", [False, True], ids=["each layer matched", "one matching shared"])
def test_with_fewer_queries_than_targets_every_layer_is_divided_by_the_targets(shared):
    one_query = {"pred_bboxes": grid_of_boxes(2, 3, 1), "pred_scores": grid_of_logits(2, 3, 1, 2), "denoising": None}
    pairs = [(0, 0, 0), (2, 0, 2)]
    case = right_away(varifocal(**one_query), pairs).change(use_uni_match=shared)
    for layer, suffix in ((1, ""), (0, "_aux")):
        by_hand = one_layer(case.pred_bboxes[layer], case.pred_scores[layer], case, pairs, normaliser=3)
        assert_equal(expected(case), suffix, by_hand)


def test_a_batch_without_targets_keeps_the_varifocal_loss_and_divides_by_1():
    case = varifocal(
        gt_cls=np.zeros(0, dtype=np.int64), gt_bboxes=np.zeros((0, 4)), gt_groups=(0, 0, 0), denoising=None
    )
    assert_equal(expected(case), "", one_layer(case.pred_bboxes[1], case.pred_scores[1], case, [], normaliser=0))


def test_denoising_queries_are_divided_by_targets_times_groups():
    case = right_away(varifocal(), PAIRS)
    pairs = [(0, 0, 0), (0, 4, 0), (2, 0, 1), (2, 1, 2), (2, 4, 1), (2, 5, 2)]
    by_hand = one_layer(denoising().bboxes[0], denoising().scores[0], case, pairs, normaliser=6)
    assert_equal(expected(case), "_dn", by_hand)


def test_the_weight_of_the_varifocal_loss_has_no_gradient_here_and_one_in_the_base_spec():
    case = right_away(varifocal(denoising=None), PAIRS)
    ours, base = (oracle.expected_losses(case, spec)["loss_class"] for spec in (RTDETR, ULTRALYTICS))
    assert float(ours) == pytest.approx(float(base), rel=1e-4)
    assert np.abs(ours.gradients["pred_scores"].values - base.gradients["pred_scores"].values).max() > 1e-3


def test_nothing_is_added_to_a_union():
    tiny = np.full((3, 4), 2.0**-9)
    case = right_away(varifocal(gt_bboxes=tiny, denoising=None), []).change(pred_bboxes=np.tile(tiny[0], (2, 3, 4, 1)))
    losses = oracle.expected_losses(case, RTDETR)  # every matching is the same here
    assert float(losses["loss_giou"]) == 0.0
    assert float(oracle.expected_losses(case, ULTRALYTICS)["loss_giou"]) > 0.01


def test_cross_entropy_is_held_against_labels_and_divided_by_the_targets():
    pairs = [(0, 0, 0), (2, 0, 2)]
    case = right_away(small_case(**FEW_QUERIES, denoising=None), pairs).change(use_fl=False)
    y, x = np.zeros((3, 1, 2)), case.pred_scores[1]
    for image, query, target in pairs:
        y[image, query, case.gt_cls[target]] = 1
    entropy = -y * np.log(sigmoid(x)) - (1 - y) * np.log(1 - sigmoid(x))
    assert float(expected(case)["loss_class"]) == pytest.approx(entropy.sum() / 3, rel=1e-12)
