"""Points of masks in a case: what fits, how they travel, and what a change of the case makes of them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from detr_conformance.mutants import MUSEUM
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.additions import append_empty_image, empty_images
from detr_conformance.properties.case_json import CaseFormatError, from_document, from_json, to_document, to_json
from detr_conformance.properties.case_masks import Masks
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.given_case import undefined
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.rules.matched import assert_optimal
from detr_conformance.properties.staged import staged
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.transforms import (
    mirror,
    reverse_queries,
    reverse_targets,
    rotate_images,
    select_images,
    snap,
    transpose,
)
from detr_conformance.reference import FAMILY

from .sample_cases import grid_of_logits, small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

SPEC = FAMILY["maskdino"]
JUDGED = PortUnderTest(ReferencePort(SPEC))
SEVERAL = Request(targets=(1, 3), images=(2, 3))
LOSS_POINTS = np.arange(12.0).reshape(3, 2, 2) / 16
COST_POINTS = np.arange(18.0).reshape(3, 3, 2) / 32


def drawn(request=SEVERAL, count=20, judged=JUDGED):
    """Cases as rules get them."""
    return list(islice(pool(request, Domain.of(judged), 0), count))


def masked(**points):
    """A small case of three images and three targets; the middle image has none."""
    given = {"loss_points": LOSS_POINTS, "cost_points": COST_POINTS} | points
    masks = Masks(grid_of_logits(2, 3, 4, 2, 3), np.zeros((3, 4, 5)), ((4, 5), (1, 1), (2, 4)), **given)
    return small_case(masks=masks)


def losses(case):
    return {key: float(loss) for key, loss in oracle.expected_losses(case, SPEC).items()}


def test_a_case_with_points_is_the_same_after_a_round_trip():
    assert from_json(to_json(masked())) == masked()
    assert all(from_json(to_json(case)) == case for case in drawn(count=5))


def test_a_case_without_points_is_written_as_before_there_were_any():
    without = masked(loss_points=None, cost_points=None)
    assert to_document(without)["masks"].keys() == {"pred_masks", "gt_masks", "sizes"}
    assert from_json(to_json(without)) == without != masked()


def test_points_of_one_kind_alone_are_no_case():
    document = to_document(masked())
    del document["masks"]["cost_points"]
    with pytest.raises(CaseFormatError, match=r"masks\.cost_points is None, expected both"):
        from_document(document)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"loss_points": LOSS_POINTS[:2]}, r"masks.loss_points has shape \(2, 2, 2\), expected \(targets, points, 2\)"),
        ({"cost_points": COST_POINTS[:, :0]}, "at least one point"),
        ({"cost_points": COST_POINTS[..., :1]}, r"masks.cost_points has shape \(3, 3, 1\), expected \(images, points"),
        ({"loss_points": LOSS_POINTS + 1.0}, "masks.loss_points has 1.0625, expected shares of the batch from 0 to 1"),
        ({"loss_points": LOSS_POINTS * np.nan}, "masks.loss_points has nan"),
        ({"loss_points": LOSS_POINTS / 3.0}, "masks.loss_points.* which float32 cannot hold exactly"),
    ],
)
def test_points_that_do_not_fit_are_refused(points, message):
    with pytest.raises(ValueError, match=message.replace("masks.loss_points.*", r"loss_points.*")):
        masked(**points)


def test_drawn_points_reach_what_bugs_hide_behind():
    cases = drawn(count=60)
    points = np.concatenate([case.masks.loss_points.reshape(-1, 2) for case in cases])
    assert {case.masks.loss_points.shape[1] for case in cases} == {1, 2, 3, 4, 5, 6}
    assert any(case.masks.cost_points.shape[1] != case.masks.loss_points.shape[1] for case in cases)
    for place in (0.0, 0.5, 1.0):
        assert (points == place).any(axis=0).all()
    assert 0.5 < np.isin(points, (0.0, 0.25, 0.5, 0.75, 1.0), invert=True).mean() < 0.9


def test_every_target_and_every_image_has_points_of_its_own():
    for case in drawn(count=10):
        for points in (case.masks.loss_points, case.masks.cost_points):
            assert len({each.tobytes() for each in points}) == len(points)


def test_a_port_of_masks_on_pixels_gets_no_points():
    cases = drawn(judged=PortUnderTest(ReferencePort(FAMILY["detr-masks"])))
    assert all(case.masks.loss_points is case.masks.cost_points is None for case in cases)


def test_points_go_with_their_targets_and_images():
    case = masked()  # of the three targets the last two are the last image's
    assert reverse_targets(case).masks.loss_points.tolist() == LOSS_POINTS[[0, 2, 1]].tolist()
    assert rotate_images(case).masks.loss_points.tolist() == LOSS_POINTS[[1, 2, 0]].tolist()
    assert rotate_images(case).masks.cost_points.tolist() == COST_POINTS[[2, 0, 1]].tolist()
    assert select_images(case, [2]).masks.loss_points.tolist() == LOSS_POINTS[1:].tolist()
    assert empty_images(case, {0}).masks.loss_points.tolist() == LOSS_POINTS[1:].tolist()
    assert append_empty_image(case).masks.cost_points.tolist() == COST_POINTS[[0, 1, 2, 0]].tolist()


def test_points_are_mirrored_and_transposed_with_the_image():
    assert mirror(masked()).masks.loss_points[0].tolist() == [[1.0, 0.0625], [0.875, 0.1875]]
    assert transpose(masked()).masks.loss_points[0].tolist() == [[0.0625, 0.0], [0.1875, 0.125]]
    assert transpose(transpose(masked())) == masked()


@pytest.mark.parametrize(
    "change", [reverse_queries, reverse_targets, rotate_images, mirror, transpose], ids=lambda change: change.__name__
)
def test_the_reference_has_the_same_losses_before_and_after(change):
    for case in map(snap, drawn(count=6)):
        if oracle.matching_is_certain(case, SPEC):
            assert losses(change(case)) == pytest.approx(losses(case), rel=1e-9, abs=1e-12)


def test_a_profile_with_masks_at_points_leaves_masks_without_points_open():
    without = masked(loss_points=None, cost_points=None)
    assert "masks without points" in undefined(without, SPEC)
    assert "masks without points" not in undefined(masked(), SPEC)
    assert "masks without points" not in undefined(without, FAMILY["detr-masks"])


def test_masks_have_a_part_in_the_costs_of_a_profile_that_compares_them():
    case = drawn(count=1)[0]
    with_masks, without = (
        oracle.matching_costs(each, SPEC)[0][0] for each in (case, case.change(masks=None, denoising=None))
    )
    assert not np.allclose(with_masks.values, without.values)
    assert (with_masks.magnitude > without.magnitude).all()


def test_on_stage_masks_decide_nothing():
    for case in drawn(Request(queries=(3, 5), targets=(1, 3), denoising="never"), count=5):
        stage = staged(case)
        for layer, image in enumerate(JUDGED.match(stage)[0]):
            assert image[0].tolist() == list(range(case.gt_groups[layer]))
        assert_optimal(JUDGED, stage)


@pytest.mark.parametrize("mutant", [each for each in MUSEUM if each.home is SPEC][::7], ids=lambda each: each.id)
def test_a_mistake_with_points_is_failed_by_a_rule_on_masks(mutant):
    rules = [rule for rule in RULES if "mask_points" in rule.needs]
    assert any(judge(rule, mutant.port(), level="smoke", shrink=False).verdict == "fail" for rule in rules)
