"""A port's matching under judgement: as many pairs as there can be, and none cheaper."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import certify
from detr_conformance.properties.port import Matching
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference.rounding import plain

Matched = tuple[int, int, np.ndarray, np.ndarray]
"""Layer, image, and the queries and targets that a port has paired there."""

Costs = list[list[np.ndarray]]
"""Cost of every pair, for each layer and in it for each image."""


def matched_pairs(port: PortUnderTest, case: LossCase) -> list[Matched]:
    """Layer, image, queries and targets of every matching of the case."""
    return pairs_of(case, port.match(case))


def pairs_of(case: LossCase, layers: list[list[Matching]]) -> list[Matched]:
    """The same of what a matcher has returned for the case."""
    assert [len(layer) for layer in layers] == [case.images] * case.layers, (
        f"expected a matching for each of {case.layers} layers and {case.images} images, "
        f"the port returned {[len(layer) for layer in layers]}"
    )
    return [(layer, image, *pair) for layer, images in enumerate(layers) for image, pair in enumerate(images)]


def assert_pairs(case: LossCase, matched: list[Matched]) -> None:
    """In every image, for each group of its queries, as many pairs as there can be, of targets of its own."""
    __tracebackhide__ = True
    for layer, image, queries, targets in matched:
        assert len(queries) == len(targets), (
            f"layer {layer}, image {image}: the port returned {len(queries)} queries and {len(targets)} targets"
        )
        assert set(queries.tolist()) <= set(range(case.queries)), (
            f"layer {layer}, image {image}: queries {queries.tolist()} do not exist"
        )
        for group, (own_queries, own_targets) in enumerate(_groups(case, queries, targets)):
            where = f"layer {layer}, image {image}" + (f", group {group}" if case.config.query_groups > 1 else "")
            _assert_pairs_of_group(case, where, image, own_queries, own_targets)


def _groups(case: LossCase, queries: np.ndarray, targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs of each group of queries, which count within it; of one group they stay as they came."""
    if case.config.query_groups == 1:
        return [(queries, targets)]
    size = case.queries // case.config.query_groups
    groups = (queries // size == group for group in range(case.config.query_groups))
    return [(queries[own] % size, targets[own]) for own in groups]


def _assert_pairs_of_group(case: LossCase, where: str, image: int, queries: np.ndarray, targets: np.ndarray) -> None:
    __tracebackhide__ = True
    own = range(case.targets)[case.of_image(image)]
    wanted = min(case.queries // case.config.query_groups, len(own))
    assert len(queries) == wanted, (
        f"{where}: expected {wanted} pairs, the port returned {len(queries)} queries and {len(targets)} targets"
    )
    assert set(targets.tolist()) <= set(own), f"{where}: targets {targets.tolist()} are not all in {list(own)}"
    assert len(set(targets.tolist())) == wanted, f"{where}: targets {targets.tolist()} are not distinct"
    assert len(set(queries.tolist())) == wanted, f"{where}: queries {queries.tolist()} are not distinct"


def assert_optimal(port: PortUnderTest, case: LossCase) -> None:
    """Every matching of the case cheapest by the costs of the profile."""
    __tracebackhide__ = True
    assert_cheapest(port, case, matched_pairs(port, case), oracle.matching_costs(case, port.spec))


def assert_cheapest(port: PortUnderTest, case: LossCase, matched: list[Matched], costs: Costs) -> None:
    """The matching of every image cheapest by its costs, as far as rounding lets anyone see."""
    __tracebackhide__ = True
    for layer, image, queries, targets in matched:
        first = case.of_image(image).start
        groups = oracle.of_groups(costs[layer][image], case.config.query_groups)
        for cost, (own_queries, own_targets) in zip(groups, _groups(case, queries, targets), strict=True):
            allowed = oracle.allowed_cost_error(cost, case.dtype)
            certificate = certify(plain(cost), allowed, own_queries, own_targets - first)
            assert certificate.defect is None, f"layer {layer}, image {image}: {certificate.defect}"
            port.use(certificate.share)
