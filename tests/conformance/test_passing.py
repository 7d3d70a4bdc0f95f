"""Options that are passed otherwise than by keyword: how the adapter does it, which classes fail, and what is named."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from detr_conformance.diagnosis.search import diagnose
from detr_conformance.mutants import MUSEUM
from detr_conformance.optimized import HungarianMatcher, RTDETRDetectionLoss, get_cdn_group
from detr_conformance.ports import ultralytics_signatures as signatures
from detr_conformance.ports.ultralytics import UltralyticsPort
from detr_conformance.power import RULE
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain

from ..thorough import thorough_but

OF_MODES_OR_PASSING = [
    "plausible-evaluation-without-gains",
    "plausible-default-loss-varifocal",
    "plausible-gamma-and-alpha-exchanged",
]
OPTIONS = {"cost_gain": {"class": 1.0, "bbox": 5.0, "giou": 2.0}, "use_fl": False, "alpha": 0.25, "gamma": 2.0}


class OtherGamma(RTDETRDetectionLoss):
    """Gamma is 2 where it is not passed."""

    def __init__(self, *args, gamma=2.0, **kwargs):
        super().__init__(*args, gamma=gamma, **kwargs)


class AlphaBeforeGamma(RTDETRDetectionLoss):
    """Two arguments in each other's place, with the right names and defaults."""

    def __init__(
        self,
        nc=80,
        loss_gain=None,
        aux_loss=True,
        use_fl=True,
        use_vfl=False,
        use_uni_match=False,
        uni_match_ind=0,
        alpha=0.25,
        gamma=1.5,
    ):
        super().__init__(nc, loss_gain, aux_loss, use_fl, use_vfl, use_uni_match, uni_match_ind, gamma, alpha)


class MetaFirst(RTDETRDetectionLoss):
    """The arguments of denoising queries in another order."""

    def forward(self, preds, batch, dn_meta=None, dn_bboxes=None, dn_scores=None):
        return super().forward(preds, batch, dn_bboxes, dn_scores, dn_meta)


class KeywordsOnly(RTDETRDetectionLoss):
    """No order that could be wrong, and gains without a default."""

    def __init__(self, *, nc, loss_gain, **kwargs):
        super().__init__(nc=nc, loss_gain=loss_gain, **kwargs)

    def forward(self, preds, batch, *, dn_bboxes=None, dn_scores=None, dn_meta=None):
        return super().forward(preds, batch, dn_bboxes, dn_scores, dn_meta)


class HandsOn(RTDETRDetectionLoss):
    """Whatever it gets."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class OfCounts(RTDETRDetectionLoss):
    """Pairs denoising queries by numbers of targets, as until release 8.4.40."""

    def get_dn_match_indices(self, dn_pos_idx, dn_num_group, gt_groups):
        starts = [sum(gt_groups[:image]) for image in range(len(gt_groups))]
        indices = [torch.arange(start, start + count) for start, count in zip(starts, gt_groups, strict=True)]
        return super().get_dn_match_indices(dn_pos_idx, dn_num_group, indices)


class OfEither(OfCounts):
    """Takes indices under the same name."""

    def get_dn_match_indices(self, dn_pos_idx, dn_num_group, gt_groups):
        if all(torch.is_tensor(each) for each in gt_groups):
            return RTDETRDetectionLoss.get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups)
        return super().get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups)


class KeepsGains(RTDETRDetectionLoss):
    """Has its gains as an attribute, and reads others."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.kept = dict(self.loss_gain)

    def forward(self, *args, **kwargs):
        asked, self.loss_gain = self.loss_gain, self.kept
        losses = super().forward(*args, **kwargs)
        self.loss_gain = asked
        return losses


class NothingToSet:
    """A loss that shows none of its options."""

    def __init__(self, **options):
        self._loss = RTDETRDetectionLoss(**options)

    def __call__(self, *args, **kwargs):
        return self._loss(*args, **kwargs)


def detached(batch, nc, queries, embedding, *args, **kwargs):
    return get_cdn_group(batch, nc, queries, embedding.detach(), *args, **kwargs)


def always_training(*args, training=True, **kwargs):
    return get_cdn_group(*args, training=training, **kwargs)


def verdicts(loss_class, *rules, generate=None):
    port = UltralyticsPort(loss_class, generate)
    return [judge(RULE[rule], port, level="smoke", shrink=False).verdict for rule in rules]


@pytest.mark.parametrize(
    ("loss_class", "rule"), [(OtherGamma, "API-13"), (AlphaBeforeGamma, "API-14"), (MetaFirst, "API-14")]
)
def test_another_signature_fails(loss_class, rule):
    other = "API-13" if rule == "API-14" else "API-14"
    found = dict(zip((rule, other), verdicts(loss_class, rule, other), strict=True))
    assert found[rule] in ("fail", "error")
    assert found[other] == "pass"


@pytest.mark.parametrize("loss_class", [RTDETRDetectionLoss, KeywordsOnly, HandsOn])
def test_what_has_promised_nothing_is_not_accused(loss_class):
    assert verdicts(loss_class, "API-13", "API-14", "API-15", "API-16") == ["pass"] * 4


@pytest.mark.parametrize(("loss_class", "takes"), [(OfCounts, False), (OfEither, True), (RTDETRDetectionLoss, True)])
def test_whether_some_targets_may_be_denoised_is_found_out(loss_class, takes):
    port = UltralyticsPort(loss_class)
    assert ("denoising_subset" in port.capabilities) == takes
    rules = ["DN-01", "DN-05", *(["DN-06"] if takes else [])]
    assert [judge(RULE[rule], port, level="smoke").verdict for rule in rules] == ["pass"] * len(rules)


def test_an_attribute_without_effect_fails():
    assert verdicts(KeepsGains, "API-20", "API-13", "API-14") == ["fail", "pass", "pass"]


@pytest.mark.parametrize("loss_class", [RTDETRDetectionLoss, NothingToSet])
def test_attributes_that_do_what_they_say_or_are_not_there_are_not_accused(loss_class):
    assert verdicts(loss_class, "API-20") == ["pass"]


@pytest.mark.parametrize(("generate", "verdict"), [(get_cdn_group, "pass"), (detached, "fail")])
def test_an_embedding_that_denoising_queries_do_not_train_fails(generate, verdict):
    assert verdicts(RTDETRDetectionLoss, "DN-27", "DN-13", generate=generate) == [verdict, "pass"]


def test_a_generator_that_makes_queries_in_validation_fails():
    assert verdicts(RTDETRDetectionLoss, "API-17", generate=always_training) == ["fail"]


def test_a_class_that_a_port_builds_otherwise_is_not_asked():
    class Otherwise(UltralyticsPort):
        def build(self, case):
            return super().build(case)

    assert "constructor" not in Otherwise(RTDETRDetectionLoss).capabilities


def row_of(*names):
    """What a function with these arguments gets."""
    seen = {}
    code = f"def function({', '.join(names)}): seen.update(locals())"
    made = {"seen": seen}
    exec(code, made)  # noqa: S102  # a function for each signature
    return made["function"], seen


@pytest.mark.parametrize(
    "names",
    [
        ("cost_gain=None", "use_fl=True", "alpha=0.25", "gamma=2.0"),
        ("cost_gain=None", "use_fl=True", "with_mask=False", "num_sample_points=12544", "alpha=0.25", "gamma=2.0"),
        ("cost_gain=None", "*", "use_fl=True", "alpha=0.25", "gamma=2.0"),
        ("**options",),
    ],
)
@pytest.mark.parametrize("passing", ["positions", "defaults"])
def test_every_release_of_the_matcher_gets_what_is_meant(names, passing):
    function, seen = row_of(*names)
    signatures.called(function, signatures.signature_of_matcher(function), OPTIONS, passing)
    got = {**seen, **seen.get("options", {})}
    assert got["use_fl"] is False
    assert (got["alpha"], got["gamma"]) == (0.25, 2.0)


def test_what_is_at_its_default_is_left_out():
    function, seen = row_of("cost_gain=0", "use_fl=0", "alpha=0", "gamma=0")
    signatures.called(function, signatures.signature_of_matcher(function), OPTIONS, "defaults")
    assert seen == {"cost_gain": 0, "use_fl": False, "alpha": 0, "gamma": 0}


def test_the_signatures_are_those_of_the_class_api():
    assert list(signatures.signature_of_matcher(HungarianMatcher)) == [
        *("cost_gain", "use_fl", "with_mask", "num_sample_points", "alpha", "gamma")
    ]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("name", thorough_but(OF_MODES_OR_PASSING[:1], OF_MODES_OR_PASSING))
def test_what_shows_in_modes_or_by_passing_alone_is_named(name):
    [mutant] = (each for each in MUSEUM if each.id == name)
    judged = PortUnderTest(mutant.port())
    found = diagnose(judged, list(islice(pool(Request(layers=(2, 4), targets=(0, 3)), Domain.of(judged), 0), 4)))
    assert found is not None
    assert [[each.id for each in explanation] for explanation in found.mutants] == [[name]]
