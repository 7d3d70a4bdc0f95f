"""A port that has one classification loss and no other: the reference, and plain ports in torch, under every spec."""

from __future__ import annotations

from itertools import product

import pytest

pytest.importorskip("torch", reason="most of the ports are in PyTorch")

from detr_conformance.properties.case import CLASSIFICATION
from detr_conformance.properties.given_case import undefined
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES

from ..properties.sample_cases import denoising, grid_of_boxes, grid_of_logits, small_case
from ..thorough import thorough_but
from .many_seeds import ACCUSATIONS
from .one_loss_ports import ONE_EACH, of_one_loss

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

QUERIES = {"fewer": 1, "as many": 2, "more": 4}
"""Than the targets of the last image, which has two."""


def case_of(spec, queries):
    """As many layers and columns as the spec asks for, and denoising queries where it knows them."""
    columns, sizes = spec.columns(2), (max(3, spec.layers.least), 3, queries)
    boxes, logits = grid_of_boxes(*sizes), grid_of_logits(*sizes, columns)
    boxes[1], logits[1] = boxes[0], logits[0]  # if layers vote, these two outvote the last one
    made = None
    if "denoising" not in spec.undefined:
        dn_layers = spec.layers.denoising(len(boxes)) if spec.layers.denoising else 1
        sizes = dn_layers, 3, 8 if spec.denoising.regular else 9
        made = denoising(bboxes=grid_of_boxes(*sizes), scores=grid_of_logits(*sizes, columns))
    return small_case(pred_bboxes=boxes, pred_scores=logits, denoising=made)


def accusations(outcomes):
    return [f"{each.rule.id}: {each.message}" for each in outcomes if each.verdict in ACCUSATIONS]


def quick(names, queries):
    return [(name, kind, many) for (name, kind), many in product(ONE_EACH, queries) if name in names]


@pytest.mark.parametrize(
    ("name", "kind", "queries"),
    thorough_but(
        quick(["reference-ultralytics"], ["fewer"]) + quick(["detr-rows", "deim-rows"], ["more"]),
        [(name, kind, queries) for (name, kind), queries in product(ONE_EACH, QUERIES)],
    ),
)
def test_it_is_accused_on_no_case_that_fits(name, kind, queries):
    port = of_one_loss(name, kind)
    judged = PortUnderTest(port)
    case = case_of(judged.spec, QUERIES[queries]).change(**CLASSIFICATION[kind])
    assert undefined(case, judged.spec) == []
    fitting = [rule for rule in RULES if rule.applies(judged) and rule.request.fits(case)]
    outcomes = [judge(rule, port, real_cases=[case], generate=False) for rule in fitting]
    assert accusations(outcomes) == []
    assert sum(each.examples for each in outcomes) > 20


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "kind"), ONE_EACH)
@pytest.mark.parametrize(("level", "every_nth"), [("smoke", 8), ("standard", 48)])
def test_it_is_conformant(name, kind, level, every_nth):
    port = of_one_loss(name, kind)
    judged = PortUnderTest(port)
    # Another part of the rules for each; `python -m tests.correct.many_seeds --each-loss` judges them by all.
    rules = [rule for rule in RULES[ONE_EACH.index((name, kind)) % every_nth :: every_nth] if rule.applies(judged)]
    outcomes = [judge(rule, port, level=level, shrink=False) for rule in rules]
    assert accusations(outcomes) == []
    # The denoising of some ports has its limits; whatever else a spec knows, every port of it has.
    assert {each.verdict for each in outcomes} <= {"pass", "unsupported"}
