"""Rules ask the spec: whatever a spec decides, the reference that follows it is accused of nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS, MatcherConfig, replace_in
from detr_conformance.reference.denoising import logit
from detr_conformance.reference.normaliser import per_query
from detr_conformance.reference.pairing import shared_from_the_last

from ..thorough import thorough_but

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # thousands of calls of the reference

GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


def mean(losses):
    return sum(losses[1:], start=losses[0]) * (1.0 / len(losses))


def larger(tally):
    return max(tally.scores, 1.0)


def changed(*parts, spec=ULTRALYTICS):
    """The spec with other decisions, by their paths."""
    for path, value in parts:
        spec = replace_in(spec, path, value)
    return spec


SPECS = {
    "DETR's cost gains": changed(("matcher.configured", lambda _: MatcherConfig(cost_gain=GAINS))),
    "gains reach the matcher": changed(("matcher.configured", lambda c: MatcherConfig(cost_gain=dict(c.loss_gain)))),
    "the loss chooses the class cost": changed(("matcher.configured", lambda c: MatcherConfig(use_fl=c.use_fl))),
    "gains of its own": changed(("options", lambda config: replace(config, loss_gain=GAINS))),
    "boxes over queries": changed(("normaliser.bbox", per_query), ("normaliser.giou", per_query)),
    "boxes over two": changed(("normaliser.bbox", lambda _: 2.0), ("normaliser.giou", lambda _: 2.0)),
    "varifocal over scores": changed(("normaliser.varifocal", larger)),
    "mean over layers": changed(("layers.total", mean)),
    "one group": changed(("denoising.generator.groups", lambda *_: 1)),
    "shared from the last layer": changed(("pairing", shared_from_the_last)),
    "nobody is hidden": changed(
        ("denoising.generator.mask", lambda layout, count: np.zeros((layout.queries + count,) * 2, dtype=bool))
    ),
    "boxes as logits": changed(("denoising.generator.without_noise", lambda boxes: logit(boxes, 1e-3))),
    "no bce": changed(
        ("class_terms", {name: ULTRALYTICS.class_terms[name] for name in ("focal", "varifocal")}),
    ),
    "boxes of RT-DETR over queries": changed(("normaliser.giou", per_query), spec=RTDETR),
    "distributions without a union": changed(("extra_terms", FAMILY["dfine"].extra_terms), spec=RTDETR),
}


@pytest.mark.parametrize(("name", "every_nth"), thorough_but(product(SPECS, [96]), product(SPECS, [96, 4])))
def test_the_reference_under_another_spec_is_not_accused(name, every_nth):
    port = ReferencePort(SPECS[name], name)
    judged = PortUnderTest(port)
    # Another part of the rules for each spec.
    rules = [rule for rule in RULES[list(SPECS).index(name) % every_nth :: every_nth] if rule.applies(judged)]
    outcomes = [judge(rule, port, level="smoke", shrink=False) for rule in rules]
    assert [f"{each.rule.id}: {each.message}" for each in outcomes if each.verdict in ("fail", "error")] == []
