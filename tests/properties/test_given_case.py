"""What a case that somebody brings asks of a port: a port is not judged on what it does not declare."""

from __future__ import annotations

from itertools import islice

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.given_case import undefined
from detr_conformance.properties.judging import judge_on
from detr_conformance.properties.port import LossResult
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, ULTRALYTICS
from tests.thorough import thorough_but

from .sample_cases import denoising, grid_of_boxes, grid_of_logits, small_case

RULE = next(rule for rule in RULES if rule.id == "CLASS-01")
GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


class Restricted(ReferencePort):
    """Takes only some options, and must not be asked for others."""

    def __init__(self, **options: object) -> None:
        super().__init__(name="restricted")
        self.options = options

    def loss(self, case: object) -> LossResult:
        assert PortUnderTest(self).may_be_asked(gamma=case.config.gamma, alpha=case.config.alpha)
        return super().loss(case)


REFUSED = {
    "gamma": ({"gamma": (2.0, 3.0)}, "gamma 1.5, and the port's options allow only 2.0 or 3.0"),
    "alpha": ({"gamma": (1.5,), "alpha": (0.5,)}, "alpha 0.25, and the port's options allow only 0.5"),
    "loss_gain": ({"loss_gain": (GAINS | {"bbox": 6.0},)}, "loss_gain {'class': 1.0"),
    "two": ({"gamma": (2.0,), "alpha": (0.5,)}, "only 2.0; for alpha 0.25, and the port's options allow only 0.5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_with_an_option_that_the_port_does_not_have_is_unsupported_and_says_why(name):
    options, reason = REFUSED[name]
    case = small_case().change(gamma=1.5, alpha=0.25, loss_gain=GAINS)
    outcome = judge_on(case, RULE, Restricted(**options), ULTRALYTICS)
    assert outcome.verdict == "unsupported"
    assert outcome.message.startswith("the case asks for ")
    assert reason in outcome.message


def test_a_case_with_options_that_the_port_has_is_judged():
    gains = GAINS | {"no_object": 0.1}  # Ultralytics' mapping, of which nothing reads the last
    case = small_case().change(gamma=1.5, alpha=0.25, loss_gain=gains)
    outcome = judge_on(case, RULE, Restricted(gamma=(1.5, 2.0), loss_gain=(GAINS,)), ULTRALYTICS)
    assert (outcome.verdict, outcome.examples) == ("pass", 1)


def test_a_capability_that_the_case_needs_is_named():
    port = Restricted()
    port.capabilities -= {"denoising"}
    outcome = judge_on(small_case(), RULE, port, ULTRALYTICS)
    assert outcome.message == "the case needs denoising, which is not declared"


def test_a_check_on_one_case_asks_for_no_option_that_the_port_does_not_have():
    plan = CheckPlan(Restricted(gamma=(2.0,)), ULTRALYTICS, case=small_case().change(gamma=1.5))
    assert {plan.judge(rule).verdict for rule in plan.rules} == {"unsupported"}


def two_layers_of_denoising(**changes):
    even = denoising(bboxes=grid_of_boxes(2, 3, 8), scores=grid_of_logits(2, 3, 8, 2))
    return small_case(denoising=even).change(**changes)


OPEN = {
    "a layer to share": ("deformable", {"use_uni_match": True}, "use_uni_match"),
    "no auxiliary losses": ("dfine", {"aux_loss": False}, "aux_loss off"),
    "denoising queries": ("lwdetr", {}, "denoising queries"),
    "a loss of others": ("deformable", {"use_vfl": True}, "the varifocal loss"),
    "a gamma of 0": ("deim", {"class_loss": "mal", "gamma": 0.0}, "gamma 0.0 in the mal loss"),
}


@pytest.mark.parametrize("name", OPEN)
def test_what_the_spec_leaves_open_is_unsupported_whatever_the_port_declares(name):
    member, changes, named = OPEN[name]
    spec = FAMILY[member]
    outcome = judge_on(two_layers_of_denoising(**changes), RULE, ReferencePort(spec), spec)
    assert outcome.verdict == "unsupported"
    assert named in outcome.message
    assert f"which the profile {member} leaves open" in outcome.message


@pytest.mark.parametrize("name", thorough_but(["deim", "detr"], FAMILY))
def test_no_case_that_is_drawn_has_what_the_spec_leaves_open(name):
    spec = FAMILY[name]
    domain = Domain.of(PortUnderTest(ReferencePort(spec)))
    request = Request(classification=tuple(spec.class_terms), aux_loss=(True, False), uni_match=(False, True))
    drawn = list(islice(pool(request, domain, 0), 30))
    assert [undefined(case, spec) for case in drawn] == [[]] * 30
