"""Correct ports, however they are built, are never accused."""

from __future__ import annotations

from itertools import product

import pytest

pytest.importorskip("torch", reason="most of the ports are in PyTorch")

from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES

from ..thorough import thorough_but
from .criterion_ports import CRITERIA
from .many_seeds import ACCUSATIONS, outcomes
from .ports import CORRECT
from .rows_ports import ROWS

# One for each way to be different: order of sums, ties, library, profile.
QUICK = ["one-batch", "random-order-of-matching", "numpy-in-float32", "rtdetr-layers"]
QUICK += ["detr-rows", "dfine-rows", "rfdetr-criterion"]
PORTS = {port.name: port for port in CORRECT}

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def accusations(port, rules):
    """Under one seed; `python -m tests.correct.many_seeds` tries more."""
    accused = [each for each in outcomes(port, "smoke", 0, rules) if each.verdict in ACCUSATIONS]
    return [f"{port.name}: {each.rule.id} {each.verdict}: {each.message}" for each in accused]


@pytest.mark.timeout(1800)  # large cases, in pure Python
@pytest.mark.parametrize(
    ("name", "every_nth"), thorough_but(product(QUICK, [16]), [*product(QUICK, [16]), *product(PORTS, [4])])
)
def test_a_correct_port_is_not_accused(name, every_nth):
    rules = RULES[[*PORTS].index(name) % every_nth :: every_nth]
    assert accusations(PORTS[name], rules) == []


def test_neither_a_name_for_the_encoder_nor_a_dummy_query_is_accused():
    rules = [rule for rule in RULES if rule.id in ("API-01", "AUX-01", "CLASS-03", "DN-17", "REG-04")]
    assert [each.verdict for each in outcomes(PORTS["rtdetr-v2"], "smoke", 0, rules)] == ["pass"] * len(rules)


@pytest.mark.parametrize("port", [*CRITERIA, *ROWS], ids=lambda port: port.name)
def test_a_port_of_a_further_spec_declares_all_that_its_spec_knows(port):
    judged = PortUnderTest(port)
    assert {rule.id: rule.missing(judged) for rule in RULES if rule.applies(judged) and rule.missing(judged)} == {}


def test_there_are_many_ports_of_different_names():
    assert len({port.name for port in CORRECT}) == len(CORRECT) >= 15
