"""Distributions of a case: what fits, how they travel, and what a change of the case makes of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import Distributions
from detr_conformance.properties.case_json import from_json, to_json
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.posed_distributions import POSES, posed
from detr_conformance.properties.request import Request
from detr_conformance.properties.rules.dist import localisation_loss, uniform_distributions
from detr_conformance.properties.staged import staged
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.transforms import mirror, reverse_queries, select_images, snap, transpose
from detr_conformance.reference import FAMILY
from detr_conformance.reference.distributions import bin_offsets, side_offsets
from detr_conformance.reference.rounding import plain

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

DFINE = PortUnderTest(ReferencePort(FAMILY["dfine"]))
ALWAYS = Request(extra="always", denoising="always", targets=(1, 3), images=(2, 3))


def drawn(request=ALWAYS, count=1, domain=None):
    """Cases as rules get them."""
    return list(islice(pool(request, domain or Domain.of(DFINE), 0), count))


def test_a_case_with_distributions_is_the_same_after_a_round_trip():
    [case] = drawn()
    assert from_json(to_json(case)) == case
    assert from_json(to_json(case)).denoising.references.shape == case.denoising.references.shape


def test_cases_are_those_of_a_port_without_distributions_but_for_these():
    without = replace(Domain.of(DFINE), extra=())
    for one, other in zip(drawn(count=5), drawn(count=5, domain=without), strict=True):
        assert np.array_equal(one.pred_bboxes, other.pred_bboxes)
        assert (one.gt_groups, other.distributions) == (other.gt_groups, None)


def test_rules_about_something_else_look_at_distributions_now_and_then():
    some = [case.distributions is not None for case in drawn(replace(ALWAYS, extra="sometimes"), count=30)]
    assert 3 <= sum(some) <= 20
    assert not any(case.distributions is not None for case in drawn(replace(ALWAYS, extra="never"), count=5))


def test_targets_lie_inside_all_bins_and_beyond_them():
    outermost, offsets = plain(bin_offsets(33))[-1], []
    for case in drawn(count=20):
        references = case.distributions.references[0, 0]
        own = case.gt_bboxes[case.of_image(0)][:1]
        offsets.append(side_offsets(references[None], own))
    assert (np.abs(offsets) > outermost).any()
    assert (np.abs(offsets) < outermost).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda given: replace(given, pred_corners=given.pred_corners[:, :, 1:].copy()),
            "distributions.pred_corners has shape",
        ),
        (lambda given: replace(given, pred_corners=given.pred_corners[..., 1:].copy()), "33"),
        (lambda given: replace(given, references=given.references[:, 1:].copy()), "distributions.references has shape"),
        (lambda given: replace(given, references=given.references * [1, 1, 0, 1]), "the size 0.0"),
    ],
    ids=["queries", "bins", "references", "no width"],
)
def test_what_does_not_fit_is_refused(change, message):
    [case] = drawn()
    with pytest.raises(ValueError, match=message):
        case.change(distributions=change(case.distributions))


def test_distributions_of_denoising_queries_come_with_references_and_beside_others():
    [case] = drawn()
    with pytest.raises(ValueError, match="corners and references"):
        case.change(denoising=replace(case.denoising, references=None))
    with pytest.raises(ValueError, match="beside them"):
        case.change(distributions=None)


@pytest.mark.parametrize("reflect", [mirror, transpose])
def test_a_reflection_exchanges_sides_and_changes_no_loss(reflect):
    [case] = drawn(replace(ALWAYS, special=()))
    straight = snap(case)
    before, after = (oracle.expected_losses(each, FAMILY["dfine"]) for each in (straight, reflect(straight)))
    for key in ("loss_fgl", "loss_fgl_aux", "loss_ddf_aux", "loss_fgl_aux_dn", "loss_ddf_aux_dn"):
        assert float(after[key]) == pytest.approx(float(before[key]), rel=1e-9)
        assert float(before[key]) != 0
    assert reflect(reflect(straight)) == straight


def test_queries_and_images_take_their_distributions_along():
    [case] = drawn()
    given, turned = case.distributions, reverse_queries(case).distributions
    assert np.array_equal(turned.pred_corners, given.pred_corners[:, :, ::-1])
    assert np.array_equal(turned.references, given.references[:, ::-1])
    one = select_images(case, [1])
    assert np.array_equal(one.distributions.references, given.references[1:2])
    assert np.array_equal(one.denoising.references, case.denoising.references[1:2])


@pytest.mark.parametrize("pose", POSES, ids=lambda pose: pose.described)
def test_a_pose_puts_the_sides_at_its_bins(pose):
    [case] = drawn(replace(ALWAYS, denoising="never", special=(), queries=(3, 4)))
    level = posed(staged(case), pose.moved, pose.size, [{place: 1.0} for place in pose.bins])
    bins = plain(bin_offsets(33))
    offsets = side_offsets(level.distributions.references[0, :1], level.gt_bboxes[:1])[0]
    assert offsets.clip(bins[0], bins[-1]) == pytest.approx(bins[list(pose.bins)])


def test_a_case_without_distributions_is_out_of_scope():
    [case] = drawn(replace(ALWAYS, extra="never", denoising="never", queries=(3, 4)))
    assert not localisation_loss.request.fits(case)
    with pytest.raises(OutOfScope):
        uniform_distributions.check(DFINE, case)


def test_a_port_that_does_not_declare_distributions_is_not_asked_about_them():
    port = ReferencePort(FAMILY["dfine"])
    port.capabilities = port.capabilities - {"distributions"}
    judged = PortUnderTest(port)
    assert localisation_loss.missing(judged) == ["distributions"]
    assert Domain.of(judged).extra == ()


def test_distributions_are_a_record_of_two_arrays():
    [case] = drawn()
    assert list(Distributions.arrays(case.distributions)) == ["pred_corners", "references"]
    assert {"dn_corners", "denoising_references"} <= set(case.float_arrays())
    assert "denoising_references" not in case.predictions()
