"""The document of the rules says what a port has to declare, as the rules themselves decide it."""

from __future__ import annotations

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.tolerance import PRECISIONS
from detr_conformance.reference import FAMILY
from detr_conformance.spec import markdown, needs

SAID = {
    "CLASS-05": "Needs float32, a choice of loss_gain.",
    "BOX-10": "Needs float32, bce or varifocal. Only part of a run with the profiles `ultralytics`, `rtdetr`, `dfine`, "
    "`deim`, `paddle`. With the profiles `rtdetr`, `deim`, `paddle` it needs float32, varifocal. With the profile "
    "`dfine` it needs float32.",
    "AUX-04": "Only part of a run with the profiles `ultralytics`, `detr`, `detr-masks`, `deformable`, "
    "`maskdino`, `mmdet`.",
    "BOX-05": "Not asked where a profile leaves open: boxes without area. Only part of a run with the profile "
    "`ultralytics`.",
}


@pytest.mark.parametrize("rule", SAID)
def test_the_document_says_what_a_rule_needs_and_where_it_is_left_out(rule):
    section = markdown().partition(f"### {rule} ")[2].partition("###")[0]
    assert section.endswith(f" {SAID[rule]}*\n\n")


@pytest.mark.parametrize("name", FAMILY)
def test_a_port_that_declares_what_a_rule_needs_and_some_classification_loss_is_judged_by_it(name):
    spec = FAMILY[name]
    port, some = ReferencePort(spec), min(spec.class_terms)
    for rule in (each for each in RULES if each.applies(PortUnderTest(port))):
        declared = {what.split(" or ")[0] for what in needs(rule, spec)}
        port.capabilities, port.dtypes = frozenset(declared | {some}), frozenset(declared & PRECISIONS.keys())
        assert rule.missing(PortUnderTest(port)) == []
