"""The defaults of a constructor, read off its signature, and what the rule about them says."""

from __future__ import annotations

import pytest

from detr_conformance.ports.constructor_defaults import defaults_of
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import FAMILY, LossSpec

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # of arrays, of which there are none here

API_09 = RULE["API-09"]
COSTS = {"class": "set_cost_class", "giou": "set_cost_giou"}


class Criterion:
    """What a training repository may have."""

    def __init__(self, matcher, weight_dict=None, focal_alpha=0.25, gamma=2, set_cost_class=1.0):
        """Nothing is kept."""


class WithDefaults(ReferencePort):
    """A port of a spec whose constructor has these defaults."""

    def __init__(self, spec: LossSpec, **defaults: object) -> None:
        super().__init__(spec)
        self.own = defaults

    def defaults(self, _case):
        return self.own


def said_of(**defaults):
    return judge(API_09, WithDefaults(FAMILY["rtdetr"], **defaults), level="smoke")


def test_defaults_are_those_of_arguments_that_have_a_number():
    found = defaults_of(
        Criterion, alpha="focal_alpha", gamma="gamma", loss_gain={"class": "weight_dict"}, cost_gain=COSTS
    )
    assert found == {"alpha": 0.25, "gamma": 2, "cost_gain": {"class": 1.0}}


def test_an_option_that_is_no_argument_is_left_out():
    assert defaults_of(Criterion, alpha="no_such_argument", cost_alpha="matcher") == {}


@pytest.mark.parametrize("defaults", [{}, {"gamma": 2, "alpha": 0.75}, {"loss_gain": {"bbox": 5}}, {"cost_gamma": 2.0}])
def test_what_is_published_and_what_is_no_option_is_no_remark(defaults):
    assert said_of(**defaults).verdict == "pass"


def test_a_remark_names_each_option_its_value_the_published_one_and_where():
    outcome = said_of(alpha=0.2, gamma=2.0, cost_gain={"class": 1.0, "bbox": 5.0})
    assert (outcome.verdict, outcome.rule.obligation) == ("fail", "SHOULD")
    assert "with the varifocal loss alpha is 0.2, published with 0.75 (https://github.com/lyuwenyu" in outcome.message
    assert "cost_gain['class'] is 1, published with 2 (" in outcome.message
    assert "gamma" not in outcome.message


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"alfa": 0.25}, "the unknown option 'alfa', known are: gamma, alpha"),
        ({"gamma": "2"}, "gamma as str, expected real numbers"),
        ({"loss_gain": 5.0}, "loss_gain as float, expected a mapping"),
        ({"gamma": [1.0, 2.0]}, "gamma of shape (2,), expected a number"),
    ],
)
def test_what_is_no_set_of_options_is_an_error(defaults, said):
    outcome = said_of(**defaults)
    assert (outcome.verdict, said in outcome.message) == ("error", True), outcome.message


def test_a_port_without_defaults_or_a_normaliser_lacks_nothing():
    port = ReferencePort()
    port.capabilities = port.capabilities - {"defaults", "normaliser"}
    judged = PortUnderTest(port)
    assert not any(RULE[rule].applies(judged) for rule in ("API-09", "RANK-08", "RANK-09"))
    assert all(RULE[rule].applies(PortUnderTest(ReferencePort())) for rule in ("API-09", "RANK-08", "RANK-09"))


def test_a_spec_without_a_recipe_is_not_asked():
    spec = FAMILY["detr"]
    assert API_09.applies(PortUnderTest(ReferencePort(spec)))
    without = type(spec)(**{**vars(spec), "recipe": {}})
    assert not API_09.applies(PortUnderTest(ReferencePort(without)))
