"""Cases on real targets: every image and box, the same every time, and what the rule asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detr_conformance.coco import CocoTargets, ImageTargets, read_targets
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case_json import to_document
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.real_cases import BATCH, QUERIES_TO_SPARE, real_cases
from detr_conformance.reference import RTDETR, ULTRALYTICS, replace_in
from detr_conformance.reference.layers import LayerPlan

from ..properties.sample_cases import home_of
from ..thorough import thorough_but

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # one case has tens of thousands of logits

SAMPLE = Path(__file__).parents[1] / "targets" / "coco_sample.json"
RULES_BY_ID = {rule.id: rule for rule in RULES}
REAL = [rule for rule in RULES if rule.request.real and not rule.request.all_empty]


@pytest.fixture(scope="module")
def sample() -> CocoTargets:
    return read_targets(SAMPLE)


def cases(sample: CocoTargets, name: str, level: str = "standard", port: ReferencePort | None = None) -> list:
    return list(real_cases(sample, RULES_BY_ID[name], PortUnderTest(port or ReferencePort()), level))


def test_a_rule_that_takes_empty_images_sees_every_image_and_every_box(sample):
    seen = cases(sample, "MATCH-02")
    assert [case.images for case in seen] == 24 * [BATCH] + [4]
    counts = [count for case in seen for count in case.gt_groups]
    assert (len(counts), sum(counts), counts.count(0), max(counts)) == (196, 1750, 2, 51)


def test_boxes_and_classes_come_as_the_file_has_them(sample):
    seen = cases(sample, "MATCH-02")
    boxes = np.concatenate([image.boxes for image in sample.images]).astype(np.float32)
    assert np.array_equal(np.concatenate([case.gt_bboxes for case in seen]), boxes)
    classes = np.concatenate([image.classes for image in sample.images])
    assert np.array_equal(np.concatenate([case.gt_cls for case in seen]), classes)
    assert {case.config.nc for case in seen} == {80}


def test_a_rule_that_needs_targets_sees_every_image_that_has_some(sample):
    counts = [count for case in cases(sample, "INV-06") for count in case.gt_groups]
    assert (len(counts), sum(counts), min(counts)) == (194, 1750, 1)


def test_there_are_more_queries_than_targets(sample):
    for case in cases(sample, "MATCH-02", "smoke"):
        assert case.queries == max(case.gt_groups) + QUERIES_TO_SPARE


def test_the_same_file_gives_the_same_cases(sample):
    first, again = ([to_document(case) for case in cases(sample, "DN-01", "smoke")] for _ in range(2))
    assert json.dumps(first) == json.dumps(again)


def test_smoke_sees_the_first_batches_of_what_standard_sees(sample):
    few, all_of_them = cases(sample, "REG-01", "smoke"), cases(sample, "REG-01", "standard")
    assert (len(few), len(all_of_them)) == (2, 25)
    assert to_document(few[1]) == to_document(all_of_them[1])


@pytest.mark.parametrize("rule", thorough_but(RULES[::4], RULES), ids=lambda rule: rule.id)
def test_a_rule_gets_cases_that_fit_it_or_none(sample, rule):
    seen = list(real_cases(sample, rule, home_of(rule), "smoke"))
    assert len(seen) == (2 if rule in REAL else 0)
    assert all(rule.request.fits(case) for case in seen)


def test_what_a_rule_leaves_free_changes_from_batch_to_batch(sample):
    seen = cases(sample, "DN-01")
    assert {case.config.classification for case in seen} == {"focal", "varifocal", "bce"}
    assert len({case.config.gamma for case in seen}) > 3
    assert len({tuple(case.config.loss_gain.values()) for case in seen}) == 3
    assert {case.generator.num_dn for case in seen} == {100, 20}
    assert {len(case.denoising.gt_idx[0]) < case.gt_groups[0] for case in seen if case.gt_groups[0] > 1} == {
        True,
        False,
    }


def test_what_the_port_lacks_is_not_asked_for(sample):
    port = ReferencePort()
    port.capabilities = frozenset({"focal", "denoising"})
    for case in cases(sample, "API-01", "smoke", port):
        assert case.config.classification == "focal"
        assert sum(map(len, case.denoising.gt_idx)) == case.targets


def test_a_port_is_asked_for_no_option_that_it_does_not_have(sample):
    port, gains = ReferencePort(), {"class": 1.0, "bbox": 3.0, "giou": 0.5}
    port.options = {"gamma": (2.0,), "alpha": (0.5,), "loss_gain": (gains,)}
    for case in cases(sample, "REG-01", "smoke", port):
        assert (case.config.gamma, case.config.alpha, case.config.loss_gain) == (2.0, 0.5, gains)


def test_a_rule_on_boxes_is_not_checked_by_a_classification_loss_that_is_broken(sample):
    port = ReferencePort(replace_in(ULTRALYTICS, "class_terms.varifocal.weight", None), profile=ULTRALYTICS)
    for name, kinds in {"REG-01": {"focal", "bce"}, "CLASS-02": {"varifocal"}}.items():
        assert {case.config.classification for case in cases(sample, name, port=port)} == kinds


def small(*counts: int) -> CocoTargets:
    """A file whose images have so many boxes."""
    images = tuple(
        ImageTargets(number, np.zeros(count, dtype=np.int64), np.tile([0.5, 0.5, 0.25, 0.25], (count, 1)))
        for number, count in enumerate(counts)
    )
    return CocoTargets(Path("small.json"), images, 3, 0, 0)


def test_a_last_batch_is_never_smaller_than_the_rule_asks_for():
    assert [case.images for case in cases(small(*9 * [1]), "INV-06")] == [8, 2]
    assert [case.images for case in cases(small(*9 * [1]), "INV-01")] == [8, 1]


def test_a_file_without_boxes_gives_cases_without_targets():
    assert [case.gt_groups for case in cases(small(0, 0), "API-01")] == [(0, 0)]
    assert cases(small(0, 0), "REG-01") == []


@pytest.mark.parametrize("name", ["MATCH-02", "CLASS-02", "REG-02", "AUX-01", "DN-01", "INV-05", "GRAD-03", "API-01"])
def test_the_reference_passes_on_real_targets(sample, name):
    port = ReferencePort()
    given = real_cases(sample, RULES_BY_ID[name], PortUnderTest(port), "smoke")
    outcome = judge(RULES_BY_ID[name], port, real_cases=given, generate=False)
    assert (outcome.verdict, outcome.message, outcome.examples) == ("pass", "", 2)


def test_a_profile_that_knows_the_encoder_gets_a_layer_for_it(sample):
    for case in cases(sample, "DN-01", "smoke", ReferencePort(RTDETR)):
        assert (case.layers, len(case.denoising.bboxes)) == (2, 1)


def test_a_profile_gets_as_many_layers_and_slots_as_it_defines(sample):
    plan = LayerPlan(least=3, denoising=lambda layers: layers + 1)
    spec = replace_in(replace_in(ULTRALYTICS, "layers", plan), "denoising.regular", True)
    for case in cases(sample, "DN-01", "smoke", ReferencePort(spec)):
        layers, _, slots, _ = case.denoising.bboxes.shape
        assert (case.layers, layers, slots % (2 * case.denoising.num_group)) == (3, 4, 0)
