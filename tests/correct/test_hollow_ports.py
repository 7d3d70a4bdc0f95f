"""What passes for a port and is none fails, in every family of rules that looks at what it lacks."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="most of the ports are in PyTorch")

from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import FAMILY

from ..thorough import thorough_but
from .hollow_ports import Constant, Detached, DetachedPart, Null
from .many_seeds import ACCUSATIONS, named
from .ports import ROWS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

PORTS = {"ultralytics": "plain-torch", "rtdetr": "rtdetr-v2", **{port.profile: port.name for port in ROWS}}
# A loss that is a number whatever it is given is as invariant as any, and has the right keys and shapes.
SAY_NOTHING = {"INV", "API"}
ABOUT_GRADIENTS = {"GRAD", "NUM"}


def hollow(kind, spec):
    return kind(named(PORTS[spec]), frozenset(FAMILY[spec].class_terms))


def asked_of(port):
    """The rules that a port is judged by, by family."""
    judged = PortUnderTest(port)
    rules = [rule for rule in RULES if rule.applies(judged) and not rule.missing(judged)]
    return {family: [rule for rule in rules if rule.family == family] for family in {rule.family for rule in rules}}


FEW = ["detr"]
"""What a plain run looks at: it differs most from the base, and answers soonest."""


def is_caught_by_one_of(rules, port):
    return any(judge(rule, port, level="smoke", shrink=False).verdict in ACCUSATIONS for rule in rules)


def families_that_catch(port, families):
    return {
        family for family, rules in asked_of(port).items() if family in families and is_caught_by_one_of(rules, port)
    }


@pytest.mark.parametrize("kind", [Null, Constant], ids=["null", "constant"])
@pytest.mark.parametrize("spec", thorough_but(FEW, FAMILY))
def test_a_port_that_computes_nothing_fails_in_every_family_about_numbers(spec, kind):
    port = hollow(kind, spec)
    wanted = asked_of(port).keys() - SAY_NOTHING
    assert len(wanted) >= 7
    assert families_that_catch(port, wanted) == wanted


@pytest.mark.parametrize("spec", thorough_but(FEW, FAMILY))
def test_a_port_without_gradients_fails_in_every_family_about_them(spec):
    assert families_that_catch(hollow(Detached, spec), ABOUT_GRADIENTS) == ABOUT_GRADIENTS


@pytest.mark.parametrize("spec", thorough_but(FEW, FAMILY))
def test_no_part_of_the_loss_may_be_without_a_gradient(spec):
    parts = ["loss_class", "loss_bbox", "loss_giou", "loss_class_aux", "loss_bbox_aux", "loss_giou_aux"]
    if "denoising" not in FAMILY[spec].undefined:
        parts += [f"{part}_dn" for part in parts]
    ports = [DetachedPart(named(PORTS[spec]), frozenset(FAMILY[spec].class_terms), part) for part in parts]
    missed = [part for part, port in zip(parts, ports, strict=True) if not families_that_catch(port, ABOUT_GRADIENTS)]
    assert missed == []


@pytest.mark.parametrize("kind", [Null, Constant, Detached], ids=["null", "constant", "detached"])
@pytest.mark.parametrize("spec", ["detr-masks", "maskdino"])
def test_a_port_whose_masks_are_hollow_fails_there(spec, kind):
    assert families_that_catch(hollow(kind, spec), {"MASK"}) == {"MASK"}


def test_every_spec_has_a_port_of_which_they_are_made():
    assert PORTS.keys() == FAMILY.keys()
