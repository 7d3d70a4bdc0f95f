"""A user's own convention takes a few lines of spec, and the rules judge ports by it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import ULTRALYTICS, Guard, differs, wrap_in
from detr_conformance.reference.keys import TERMS, KeyTable
from detr_conformance.reference.pairing import Pairs, own_per_layer

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # checked wherever the rules judge the family

SOURCE = "https://example.org/loss.py"
BY_ID = {rule.id: rule for rule in RULES}


def verdicts(port, spec, *ids) -> dict[str, str]:
    """What these rules say of a port under a spec."""
    return {each: judge(BY_ID[each], port, spec, level="smoke", shrink=False).verdict for each in ids}


def assert_right_by_its_own_spec_alone(spec, *ids, port=None, caught_by) -> None:
    """The port of the spec passes; the base port fails what tells the two apart."""
    __tracebackhide__ = True
    own = verdicts(ReferencePort(spec) if port is None else port, spec, *ids)
    assert own == dict.fromkeys(ids, "pass")
    assert verdicts(ReferencePort(ULTRALYTICS), spec, *caught_by) == dict.fromkeys(caught_by, "fail")


# A port with a hard-coded gamma.

GAMMA_TWO = differs(
    ULTRALYTICS,
    "gamma-two",
    options=(lambda config: replace(config, gamma=2.0), "Gamma is always 2.", SOURCE),
)


def test_a_hard_coded_gamma():
    ids = "CLASS-02", "CLASS-04", "CLASS-07", "CLASS-12"
    assert_right_by_its_own_spec_alone(GAMMA_TWO, *ids, caught_by=["CLASS-02", "GRAD-01"])


# One whose eps is a floor.

EPS = 0.05  # large enough to see, where most have 1e-7

FLOOR = differs(
    ULTRALYTICS,
    "floor",
    guard=(Guard(EPS, as_floor=True), "Areas are at least eps; nothing is added to them.", SOURCE),
    matcher__guard=(Guard(EPS, as_floor=True), "In the matching cost too.", SOURCE),
)


def test_eps_as_a_floor():
    ids = "REG-02", "BOX-06", "MATCH-05", "CLASS-02"
    assert_right_by_its_own_spec_alone(FLOOR, *ids, caught_by=["REG-02", "GRAD-03"])


# D-FINE: the layers vote on whose box is held against which target's.


def votes_of_layers(match, layers, config):
    """Each query keeps the target that most layers give it; classes keep the matching of their own layer."""
    own, voted = own_per_layer(match, layers, config), []
    for of_image in zip(*(pairs.classes for pairs in own), strict=True):
        votes = Counter(pair for queries, targets in of_image for pair in zip(queries, targets, strict=True))
        chosen = {}
        for (query, target), _ in votes.most_common():
            chosen.setdefault(query, target)
        voted.append(tuple(np.array(side, dtype=np.int64) for side in ([*chosen], [*chosen.values()])))
    return [Pairs(pairs.classes, voted) for pairs in own]


UNION = differs(
    ULTRALYTICS,
    "union",
    pairing=(votes_of_layers, "Box losses answer to the vote of all layers.", "arXiv 2410.13842, section 4"),
    layers__independent=(False, "Every layer votes on the pairs of every other.", "arXiv 2410.13842, section 4"),
)


def test_a_union_of_the_matchings_of_all_layers():
    ids = "REG-02", "REG-04", "GRAD-05", "CLASS-05", "AUX-01", "DN-01"
    assert not BY_ID["AUX-08"].applies(PortUnderTest(ReferencePort(UNION)))  # every layer has its own matching
    assert_right_by_its_own_spec_alone(UNION, *ids, caught_by=["REG-01", "REG-02"])


# A table of keys that has nothing of Ultralytics'.


@dataclass(frozen=True)
class DecoderKeys(KeyTable):
    """`loss_cls`, `loss_bbox` and `loss_iou` of the last layer, `d0.loss_cls`, … of those before it.

    Those of denoising queries are the same behind `dn_`: `dn_loss_cls`, `d0.dn_loss_cls`, …
    """

    def expected(self, call):
        parts = {"": call.layers, "dn_": call.denoising_layers}
        counts = {part: layers if call.aux_loss else min(layers, 1) for part, layers in parts.items()}
        before = {part: ["", *(f"d{layer}." for layer in range(count - 1))] for part, count in counts.items() if count}
        return [frozenset(f"{d}{part}{name}" for part, layers in before.items() for d in layers for name in self.names)]

    def canonical(self, key, call):  # noqa: ARG002  # asked of every table
        match = re.fullmatch(r"(d\d+\.)?(dn_)?(loss_\w+)", key)
        if match is None or match[3] not in self.names:
            return None
        return f"loss_{self.names[match[3]]}{'_aux' if match[1] else ''}{'_dn' if match[2] else ''}"

    def named(self, losses):
        named = {}
        for part, of in (("", losses.ordinary), ("dn_", losses.denoising)):
            layers = [] if of is None else [("", of.main), *((f"d{i}.", each) for i, each in enumerate(of.auxiliary))]
            named |= {f"{d}{part}{key}": each[term] for d, each in layers for key, term in self.names.items()}
        return named

    @property
    def names(self) -> Mapping[str, str]:
        return dict(zip(("loss_cls", "loss_bbox", "loss_iou"), TERMS, strict=True))


DECODER = differs(ULTRALYTICS, "decoder", keys=(DecoderKeys(), "One key for each decoder layer.", SOURCE))


def test_keys_that_have_nothing_of_the_base():
    ids = "API-01", "API-05", "REG-01", "AUX-04", "DN-01", "DN-02"
    assert_right_by_its_own_spec_alone(DECODER, *ids, caught_by=["API-01", "REG-01"])


def test_keys_may_also_be_the_ports_own():
    port = ReferencePort(DECODER, profile=ULTRALYTICS)
    assert set(verdicts(port, ULTRALYTICS, "API-01", "REG-01").values()) == {"fail"}
    port.keys = DecoderKeys()
    assert_right_by_its_own_spec_alone(ULTRALYTICS, "API-01", "REG-01", port=port, caught_by=[])


@pytest.mark.parametrize("part", ["", "d0.", "dn_", "d0.dn_"])
def test_a_key_that_is_missing_is_named_by_the_ports_own_word(part):
    class Forgetful(ReferencePort):
        def loss(self, case):
            result = super().loss(case)
            return replace(
                result, losses={key: each for key, each in result.losses.items() if key != f"{part}loss_cls"}
            )

    rule = BY_ID["DN-01" if "dn" in part else "AUX-01" if part else "CLASS-01"]
    outcome = judge(rule, Forgetful(DECODER), DECODER, level="smoke", shrink=False)
    assert outcome.verdict == "fail"
    assert f"the port returned no {part}loss_cls" in outcome.message


@pytest.mark.parametrize("spec", [GAMMA_TWO, FLOOR, UNION, DECODER], ids=lambda spec: spec.name)
def test_a_mistake_under_an_own_convention_is_still_one(spec):
    twice = wrap_in(spec, "gain", lambda right: lambda *args: 2.0 * right(*args))
    assert verdicts(ReferencePort(twice), spec, "REG-01", "CLASS-01") == {"REG-01": "fail", "CLASS-01": "fail"}
