"""A port that has one classification loss and no other: the reference, and a plain port in torch, under every spec."""

from __future__ import annotations

from copy import copy
from itertools import product

import pytest

pytest.importorskip("torch", reason="half of the ports are in PyTorch")

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import CLASSIFICATION
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import RTDETR, ULTRALYTICS

from ..properties.sample_cases import grid_of_boxes, grid_of_logits, small_case
from ..thorough import thorough_but
from .many_seeds import ACCUSATIONS, named

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

PORTS = {
    "reference": ReferencePort(ULTRALYTICS),
    "reference-rtdetr": ReferencePort(RTDETR),
    "plain-torch": named("plain-torch"),
    "rtdetr-v2": named("rtdetr-v2"),
}
QUERIES = {"fewer": 1, "as many": 2, "more": 4}
"""Than the targets of the last image, which has two."""


def of_one_loss(name, kind):
    """The port, declaring no other classification loss."""
    port = copy(PORTS[name])
    port.capabilities = port.capabilities - set(CLASSIFICATION) | {kind}
    return port


def accusations(outcomes):
    return [f"{each.rule.id}: {each.message}" for each in outcomes if each.verdict in ACCUSATIONS]


@pytest.mark.parametrize(
    ("name", "kind", "queries"),
    thorough_but(product(["reference"], CLASSIFICATION, QUERIES), product(PORTS, CLASSIFICATION, QUERIES)),
)
def test_it_is_accused_on_no_case_that_fits(name, kind, queries):
    sizes = (2, 3, QUERIES[queries])
    case = small_case(pred_bboxes=grid_of_boxes(*sizes), pred_scores=grid_of_logits(*sizes, 2))
    case = case.change(**CLASSIFICATION[kind])
    port = of_one_loss(name, kind)
    fitting = [rule for rule in RULES if rule.applies(PortUnderTest(port)) and rule.request.fits(case)]
    outcomes = [judge(rule, port, real_cases=[case], generate=False) for rule in fitting]
    assert accusations(outcomes) == []
    assert sum(each.examples for each in outcomes) > 20


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", CLASSIFICATION)
@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("level", ["smoke", "standard"])
def test_it_is_conformant(name, kind, level):
    port = of_one_loss(name, kind)
    judged = PortUnderTest(port)
    outcomes = [judge(rule, port, level=level, shrink=False) for rule in RULES if rule.applies(judged)]
    assert accusations(outcomes) == []
