"""A port that declares what no loss can have is refused before it is asked anything."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import check_port
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import RTDETR

GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
LACKING = {"class": 1.0, "bbox": 5.0}


def port_with(**declared: object) -> ReferencePort:
    port = ReferencePort(name="odd")
    vars(port).update(declared)
    return port


REFUSED = {
    "text for gamma": ({"gamma": ("2",)}, TypeError, r"port 'odd': options\['gamma'\]\[0\] is '2', expected a number"),
    "no alpha": ({"alpha": (0.25, None)}, TypeError, r"options\['alpha'\]\[1\] is None, expected a number"),
    "an endless gamma": ({"gamma": (math.inf,)}, ValueError, "is inf, expected a finite number"),
    "a negative gamma": ({"gamma": (-1.0,)}, ValueError, r"options\['gamma'\]\[0\] is -1.0, expected at least 0"),
    "a number for gains": ({"loss_gain": (1.0,)}, TypeError, "is 1.0, expected a gain for each of class, bbox, giou"),
    "gains that lack a term": (
        {"loss_gain": (LACKING,)},
        ValueError,
        "lacks 'giou', expected a gain for each of class",
    ),
    "a gain in words": (
        {"loss_gain": (GAINS | {"bbox": "5"},)},
        TypeError,
        r"options\['loss_gain'\]\[0\]\['bbox'\] is '5', expected a number",
    ),
    "a gain of 0": (
        {"loss_gain": (GAINS, GAINS | {"giou": 0.0})},
        ValueError,
        r"\['giou'\] is 0.0, expected a number above 0",
    ),
    "a negative gain": ({"loss_gain": (GAINS | {"class": -1},)}, ValueError, "is -1, expected a number above 0"),
    "a gain that is no number": ({"loss_gain": (GAINS | {"class": math.nan},)}, ValueError, "expected a finite number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_no_loss_can_have_is_refused_by_name(name):
    options, error, reason = REFUSED[name]
    with pytest.raises(error, match=reason):
        check_port(port_with(options=options))


def test_values_that_a_loss_can_have_are_taken():
    gains = MappingProxyType(GAINS | {"no_object": 0.0})
    check_port(port_with(options={"gamma": [0, 2], "alpha": (-1.0, 0.25), "loss_gain": (gains,)}))


@pytest.mark.parametrize("keys", [{"loss_class": "loss_ce"}, dict.keys])
def test_keys_that_are_no_table_are_refused_before_and_while_the_port_is_judged(keys):
    with pytest.raises(TypeError, match=r"ReferencePort.keys is .*, expected a KeyTable of detr_conformance.reference"):
        check_port(port_with(keys=keys))
    with pytest.raises(TypeError, match=r"ReferencePort\.keys is"):
        judge(RULES[0], port_with(keys=keys), level="smoke")


@pytest.mark.parametrize("keys", [None, RTDETR.keys])
def test_a_table_of_keys_or_none_is_taken(keys):
    check_port(port_with(keys=keys))
