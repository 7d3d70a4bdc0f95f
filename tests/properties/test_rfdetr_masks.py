"""RF-DETR's masks: targets by nearest pixels, and what a point on the edge between two of them means."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.ports.rfdetr_mask_readers import nearest_each, nearest_with_zeros, sampled_each_with_border
from detr_conformance.ports.rfdetr_masks_spec import RFDETR_MASKS, TRANSFORMERS_RFDETR
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import reads_masks_bilinearly
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import FAMILY, track
from detr_conformance.reference.masks import sampled_each

from ..thorough import thorough_but

MASK = np.array([[[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]]])
SPECS = [RFDETR_MASKS, TRANSFORMERS_RFDETR]

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def at(read, *points, masks=MASK):
    return read(masks, np.array([points]))[0]


def test_a_target_has_at_a_point_the_value_of_the_pixel_that_it_lies_in():
    points = [(0.1, 0.1), (0.3, 0.1), (0.3, 0.9), (0.99, 0.01)]
    for read in (nearest_each, nearest_with_zeros):
        assert at(read, *points).tolist() == [1.0, 0.0, 1.0, 1.0]


def test_on_the_edge_between_two_pixels_either_of_them_is_right():
    edge, inside = at(nearest_each, (0.25, 0.1), (0.3, 0.1), masks=track(MASK))
    assert (edge.values, edge.magnitude * edge.arithmetic.eps) == (0.5, 0.5)
    assert (inside.values, inside.magnitude) == (0.0, 0.0)
    alike = at(nearest_each, (0.5, 0.1), masks=track(MASK))
    assert (alike.values, alike.magnitude) == (0.0, 0.0)


def test_on_the_border_the_zeros_around_are_next_to_a_pixel_where_there_are_zeros():
    corner = at(nearest_with_zeros, (1.0, 0.1), masks=track(MASK))
    assert (corner.values, corner.magnitude * corner.arithmetic.eps) == (0.5, 0.5)
    assert at(nearest_each, (1.0, 0.1), masks=track(MASK)).values == 1.0


def test_predictions_of_the_package_go_on_beyond_their_outermost_centres():
    points = [(0.0, 0.0), (1.0, 0.25), (0.5, 0.5)]
    assert at(sampled_each_with_border, *points).tolist() == [1.0, 1.0, 0.5]
    assert at(sampled_each, *points).tolist() == [0.25, 0.5, 0.5]


def test_rules_on_bilinear_targets_are_not_about_them():
    assert reads_masks_bilinearly(FAMILY["maskdino"])
    assert not any(map(reads_masks_bilinearly, [*SPECS, FAMILY["detr-masks"], FAMILY["rfdetr"]]))


@pytest.mark.parametrize("spec", thorough_but(SPECS[1:2], SPECS), ids=lambda spec: spec.name)
def test_the_reference_of_these_specs_passes_the_rules_on_masks(spec):
    port = ReferencePort(spec)
    rules = [rule for rule in RULES if rule.family == "MASK" and rule.applies(PortUnderTest(port))]
    assert len(rules) == 12
    assert {judge(rule, port, level="smoke", shrink=False).verdict for rule in rules} == {"pass"}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_sixteenth_of_the_pixels_is_drawn_in_the_losses_at_least_a_row(spec):
    counts = spec.mask_points
    assert [counts.losses(*size) for size in ((8, 12), (16, 32), (128, 128))] == [8, 32, 1024]
    assert [counts.matcher(*size) for size in ((8, 12), (16, 32), (128, 128))] == [6, 32, 1024]
