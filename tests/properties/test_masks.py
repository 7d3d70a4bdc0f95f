"""Masks of a case: what fits, how they travel, and what a change of the case makes of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from detr_conformance.mutants import MUSEUM
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.additions import append_empty_image, empty_images, repeat_queries
from detr_conformance.properties.case import Masks
from detr_conformance.properties.case_json import CaseFormatError, from_document, from_json, to_document, to_json
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.transforms import (
    images_of_one_size,
    mirror,
    reverse_queries,
    reverse_targets,
    rotate_images,
    select_images,
    snap,
    transpose,
)
from detr_conformance.reference import FAMILY

from .sample_cases import denoising, grid_of_logits, small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

SPEC = FAMILY["detr-masks"]
JUDGED = PortUnderTest(ReferencePort(SPEC))
SEVERAL = Request(targets=(1, 3), images=(2, 3))


def drawn(request=SEVERAL, count=20, domain=None):
    """Cases as rules get them."""
    return list(islice(pool(request, domain or Domain.of(JUDGED), 0), count))


def small_masks(**changes):
    """Of a small case: two rows of three pixels; the middle image and the last are smaller than the batch."""
    objects = np.zeros((3, 4, 5))
    objects[0, :, 1:4], objects[1, :2, :2], objects[2, 1, 3] = 1.0, 1.0, 1.0
    parts = {"pred_masks": grid_of_logits(2, 3, 4, 2, 3), "gt_masks": objects, "sizes": ((4, 5), (1, 1), (2, 4))}
    return Masks(**parts | changes)


def masked(**changes):
    return small_case(masks=small_masks(), **changes)


def losses(case):
    return {key: float(loss) for key, loss in oracle.expected_losses(case, SPEC).items()}


def test_a_case_with_masks_is_the_same_after_a_round_trip():
    assert from_json(to_json(masked())) == masked()
    with_denoising = masked(denoising=denoising(masks=grid_of_logits(1, 3, 9, 2, 3)))
    assert from_json(to_json(with_denoising)) == with_denoising
    assert all(from_json(to_json(case)) == case for case in drawn(count=5))


def test_a_case_without_masks_is_written_as_before_there_were_any():
    document = to_document(small_case(denoising=denoising()))
    assert "masks" not in document
    assert "masks" not in document["denoising"]
    assert from_document(document).masks is None


def test_the_size_of_an_image_is_part_of_a_case():
    padded = masked().change(masks=small_masks(sizes=((4, 5), (4, 5), (2, 4))))
    assert padded != masked()
    assert hash(padded) != hash(masked())


@pytest.mark.parametrize("sizes", [[[4, 5], [1, 1], [2]], [[4, 5], [1, 1], 2], [[4, 5], [1, 1], [2, "4"]]])
def test_a_document_with_other_sizes_is_no_case(sizes):
    document = to_document(masked())
    document["masks"]["sizes"] = sizes
    with pytest.raises(CaseFormatError, match=r"masks\.sizes\[2\]"):
        from_document(document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_masks": grid_of_logits(2, 3, 3, 2, 3)}, r"masks.pred_masks has shape \(2, 3, 3, 2, 3\)"),
        ({"pred_masks": np.zeros((2, 3, 4, 0, 3))}, "at least 1 x 1"),
        ({"gt_masks": np.zeros((2, 4, 5))}, r"masks.gt_masks has shape \(2, 4, 5\), expected \(targets, height, width"),
        ({"gt_masks": np.full((3, 4, 5), 0.5)}, "masks.gt_masks has 0.5, expected 0 and 1"),
        ({"gt_masks": np.ones((3, 4, 5))}, r"masks.gt_masks\[1\] has pixels beyond its image, which is 2 x 4"),
        ({"sizes": ((4, 5), (1, 1))}, "masks.sizes has 2 entries, expected one for each of the 3 images"),
        ({"sizes": ((4, 5), (1, 0), (2, 4))}, r"masks.sizes\[1\] is 0, expected at least 1"),
        ({"sizes": ((4, 4), (1, 1), (2, 4))}, r"masks.gt_masks are \(4, 5\), expected the largest"),
    ],
)
def test_masks_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_case(masks=small_masks(**changes))


def test_masks_of_denoising_queries_have_the_size_of_the_others():
    with pytest.raises(ValueError, match=r"denoising.masks has shape \(1, 3, 9, 2, 2\), expected \(1, 3, 9, 2, 3\)"):
        masked(denoising=denoising(masks=grid_of_logits(1, 3, 9, 2, 2)))
    with pytest.raises(ValueError, match=r"denoising.masks are given, expected masks of ordinary queries"):
        small_case(denoising=denoising(masks=grid_of_logits(1, 3, 9, 2, 3)))


def test_logits_of_masks_are_numbers_of_the_dtype():
    with pytest.raises(ValueError, match=r"pred_masks\[0, 0, 0, 0, 0\] is .*, which float32 cannot hold"):
        small_case(masks=small_masks(pred_masks=np.full((2, 3, 4, 2, 3), 0.1)))


def test_cases_are_those_of_a_port_without_masks_but_for_these():
    without = replace(Domain.of(JUDGED), extra=())
    for one, other in zip(drawn(count=5), drawn(count=5, domain=without), strict=True):
        assert np.array_equal(one.pred_bboxes, other.pred_bboxes)
        assert (one.gt_groups, other.masks) == (other.gt_groups, None)


def test_a_port_without_masks_is_asked_about_the_rest_only():
    port = ReferencePort(SPEC)
    port.capabilities = port.capabilities - {"masks"}
    judged = PortUnderTest(port)
    assert all(case.masks is None for case in drawn(domain=Domain.of(judged)))
    missing = {rule.id for rule in RULES if rule.applies(judged) and rule.missing(judged)}
    assert missing == {rule.id for rule in RULES if "masks" in rule.needs}


@pytest.mark.parametrize(
    ("capability", "specs"),
    [("masks", {"detr-masks"}), ("mask_points", {"maskdino"}), ("distributions", {"dfine", "deim"})],
)
def test_a_rule_on_extra_terms_is_about_the_specs_that_have_them(capability, specs):
    rules = [rule for rule in RULES if capability in rule.needs]
    judged = {name: PortUnderTest(ReferencePort(spec)) for name, spec in FAMILY.items()}
    assert rules
    assert all({name for name, each in judged.items() if rule.applies(each)} == specs for rule in rules)


def test_every_rule_of_their_families_asks_for_one_of_them():
    asked = {"masks", "mask_points", "distributions"}
    assert all(len(asked & rule.needs) == 1 for rule in RULES if rule.family in ("MASK", "DIST"))


def test_drawn_masks_reach_what_bugs_hide_behind():
    cases = drawn(count=100)
    shapes = [(case.masks.pred_masks.shape[3:], case.masks.size) for case in cases]
    objects = [mask for case in cases for mask in case.masks.gt_masks]
    assert any(predicted[0] < wanted[0] and predicted[1] < wanted[1] for predicted, wanted in shapes)
    assert any(predicted[0] > wanted[0] and predicted[1] > wanted[1] for predicted, wanted in shapes)
    assert any(predicted == wanted for predicted, wanted in shapes)
    assert sum(len(set(case.masks.sizes)) > 1 for case in cases) > 20
    assert any(not mask.any() for mask in objects)
    assert any(mask.all() for mask in objects)


@pytest.mark.parametrize("change", [reverse_queries, reverse_targets, transpose], ids=lambda change: change.__name__)
def test_a_change_made_twice_is_none(change):
    assert change(change(masked())) == masked()


def test_a_mirrored_batch_has_images_of_one_size():
    assert mirror(mirror(snap(masked()))) == images_of_one_size(snap(masked()))


@pytest.mark.parametrize(
    "change", [reverse_queries, reverse_targets, rotate_images, mirror, transpose], ids=lambda change: change.__name__
)
def test_the_reference_has_the_same_losses_before_and_after(change):
    for case in map(snap, drawn(count=6)):
        if oracle.matching_is_certain(case, SPEC):
            assert losses(change(case)) == pytest.approx(losses(case), rel=1e-9, abs=1e-12)


def test_a_batch_is_as_small_as_its_images_allow():
    last = select_images(masked(), [2]).masks
    assert last.size == (2, 4)
    assert last.sizes == ((2, 4),)
    assert np.array_equal(last.gt_masks, masked().masks.gt_masks[1:, :2, :4])


def test_additions_take_masks_along():
    case = masked()
    assert empty_images(case, {0}).masks.gt_masks.tolist() == case.masks.gt_masks[1:].tolist()
    assert append_empty_image(case).masks.sizes == (*case.masks.sizes, (4, 5))
    assert np.array_equal(repeat_queries(case).masks.pred_masks[:, :, 4:], case.masks.pred_masks)


@pytest.mark.thorough
def test_a_mistake_with_masks_is_failed_and_shrunk_to_a_few_pixels():
    mutant = next(each for each in MUSEUM if each.id == "plausible-dice-without-one")
    rule = next(each for each in RULES if each.id == "MASK-02")
    outcome = judge(rule, mutant.port(), level="smoke")
    assert outcome.verdict == "fail"
    assert outcome.case.masks.pred_masks[0, 0, 0].size <= 2
    assert outcome.case.masks.size[0] * outcome.case.masks.size[1] <= 2
