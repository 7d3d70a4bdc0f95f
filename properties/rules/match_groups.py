"""MATCH: groups of queries, as LW-DETR trains with."""

from __future__ import annotations

from dataclasses import replace

from detr_conformance.properties import oracle
from detr_conformance.properties.additions import empty_images
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.matched import assert_cheapest, assert_pairs, matched_pairs

GROUPS = Request(query_groups=(2, 3), layers=(1, 2), queries=(1, 4), targets=(0, 3), denoising="never", real=False)
SOURCE = "Chen et al., Group DETR, arXiv 2207.13085, section 3.2"


@rule("MATCH-19", source=SOURCE, request=replace(GROUPS, cheap=True), needs={"match"}, among=has_query_groups)
def groups_are_matched_apart(port: PortUnderTest, case: LossCase) -> None:
    """Where queries fall into groups, each of them is matched with all targets of the image on its own, at the least
    cost."""
    matched = matched_pairs(port, case)
    assert_pairs(case, matched)
    assert_cheapest(port, case, matched, oracle.matching_costs(case, port.spec))


@rule("MATCH-20", source=SOURCE, request=GROUPS, among=has_query_groups)
def losses_of_groups(port: PortUnderTest, case: LossCase) -> None:
    """With groups of queries every loss, and every gradient, is the sum over the pairs of all groups and over all
    queries, divided by the profile's normaliser: the number of targets times that of the groups, or 1 without any."""
    for same in (case, empty_images(case, set(range(case.images)))):
        expected, returned = port.expected(same), port.loss(same)
        returned.assert_values(expected)
        if port.can("gradients"):
            returned.assert_gradients(expected)
