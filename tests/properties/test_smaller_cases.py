"""What fails is made smaller along every axis for as long as it fails, and stays a legal case."""

from __future__ import annotations

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties.extreme_sizes import extreme_cases
from detr_conformance.properties.given_case import refusal
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.smaller_cases import smallest, with_targets
from detr_conformance.reference import FAMILY, ULTRALYTICS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def largest(spec=ULTRALYTICS):
    """RT-DETR's own sizes, with denoising queries."""
    cases = extreme_cases(RULE["DN-04"], PortUnderTest(ReferencePort(spec)), "smoke", 0)
    return next(case for case in cases if (case.queries, case.config.nc) == (300, 80))


@pytest.mark.parametrize(
    ("fails", "left"),
    [
        (lambda case: case.queries > 100, (1, 1, 101, 1, 0)),
        (lambda case: case.config.nc > 37, (1, 1, 1, 38, 0)),
        (lambda case: case.targets > 20, (1, 1, 1, 1, 21)),
        (lambda case: case.layers > 1, (2, 1, 1, 1, 0)),
        (lambda case: case.images, (1, 1, 1, 1, 0)),
    ],
)
def test_only_what_the_failure_needs_is_left(fails, left):
    case = smallest(largest(), fails)
    assert (case.layers, case.images, case.queries, case.config.nc, case.targets) == left
    assert case.denoising is None


def test_a_failure_in_denoising_queries_keeps_as_many_groups_as_it_needs():
    case = smallest(largest(), lambda case: case.denoising is not None and case.denoising.num_group > 1)
    assert (case.denoising.num_group, case.targets, case.denoising.bboxes.shape[2]) == (2, 1, 4)


def test_a_failure_in_a_later_image_leaves_that_image():
    case = largest()
    box = case.gt_bboxes[case.of_image(case.images - 1)][0].tolist()
    found = smallest(case, lambda each: box in each.gt_bboxes.tolist())
    assert (found.images, found.gt_bboxes.tolist()) == (1, [box])


@pytest.mark.parametrize("spec", FAMILY.values(), ids=lambda spec: spec.name)
def test_what_is_left_may_be_asked_of_a_port_of_the_spec(spec):
    if "denoising" in spec.undefined:
        pytest.skip(f"{spec.name} has no denoising queries")
    fewer = with_targets(largest(spec), 1)
    assert refusal(fewer, PortUnderTest(ReferencePort(spec))) == ""
    assert max(len(own) for own in fewer.denoising.gt_idx) <= 1
