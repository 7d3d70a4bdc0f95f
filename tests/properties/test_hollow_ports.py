"""Ports that answer without computing fail in every family that they touch: no budget is so wide as to be empty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import FAMILIES
from detr_conformance.properties.rules import RULES

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


class Constant(ReferencePort):
    """Whatever it is asked, it answers with one and the same number, in the right shapes."""

    number = 1.0

    def loss(self, case):
        result = super().loss(case)
        gradients = {key: {name: self._same(each) for name, each in of.items()} for key, of in result.gradients.items()}
        return replace(result, losses=dict.fromkeys(result.losses, np.asarray(self.number)), gradients=gradients)

    def losses_in_turn(self, cases):
        return [self.loss(case) for case in cases]

    losses_of_ranks = losses_of_steps = losses_in_turn

    def defaults(self, _case):
        return {"gamma": self.number}

    def match(self, case):
        return [[(queries * 0, targets) for queries, targets in layer] for layer in super().match(case)]

    def denoising_indices(self, case):
        return [(slots, targets * 0) for slots, targets in super().denoising_indices(case)]

    def denoising_group(self, case):
        group = super().denoising_group(case)
        if group is None:
            return None
        labels, boxes = self._same(group.labels), self._same(group.boxes)
        return DenoisingGroup(
            labels, boxes, group.blocked * False, group.pos_idx, group.gt_idx, group.num_group, group.num_split
        )

    def _same(self, array):
        return np.full(np.shape(array), self.number)


class Null(Constant):
    """Zeros."""

    number = 0.0


class Detached(ReferencePort):
    """The right losses, and no gradient."""

    def loss(self, case):
        return replace(super().loss(case), gradients={})

    def losses_in_turn(self, cases):
        return [replace(each, gradients={}) for each in super().losses_in_turn(cases)]

    def losses_of_ranks(self, cases):
        return [replace(each, gradients={}) for each in super().losses_of_ranks(cases)]


def families_failed_by(port):
    """The families of which some rule fails the port."""
    failed = set()
    for rule in (each for each in RULES if each.applies(PortUnderTest(port))):
        if rule.family not in failed and judge(rule, port, level="smoke", shrink=False).verdict == "fail":
            failed.add(rule.family)
    return failed


@pytest.mark.parametrize(
    ("port", "untouched"),
    [
        (Constant(name="constant"), set()),
        # Zeros do not change with anything, and are linear in everything.
        (Null(name="null"), {"INV"}),
        # What does not look at gradients has nothing to find. MATCH does, for who is matched inside; API-18 as well.
        pytest.param(
            Detached(name="detached"),
            {"BOX", "CLASS", "REG", "AUX", "DN", "INV"},
            marks=pytest.mark.thorough,
        ),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_port_that_computes_nothing_fails_in_every_family_that_it_touches(port, untouched):
    touched = {rule.family for rule in RULES if rule.applies(PortUnderTest(port))}
    assert touched == set(FAMILIES) - {"MASK", "DIST"}  # its spec has neither masks nor distributions
    assert families_failed_by(port) == touched - untouched
