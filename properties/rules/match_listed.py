"""MATCH: every small assignment problem there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np

from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.case_options import LOSS_GAIN
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.matched import assert_pairs, matched_pairs

LARGEST = 3
"""Most queries, and most targets of an image."""
VALUES = (0, 1, 2)
UNIT = 2.0**-6
"""Half of what a cost of 1 is in L1 distance. All numbers below are small multiples of it, and all sums exact."""
ORIGIN = np.array([0.5, 0.5, 0.25, 0.25])
CHUNK = 256
"""So many matrices a call: as images of a batch, shared out over two layers."""
L1_ALONE = {"class": 0.0, "bbox": 1.0, "giou": 0.0}

Matrix = tuple[tuple[int, ...], ...]
"""Costs of whole numbers: a row for each query, a column for each target."""


def small_problems(level: str, classification: str) -> Iterator[LossCase]:
    """All matrices of costs 0, 1 and 2 up to 3 by 3; at level smoke one of all that differ by the order of rows and
    columns."""
    for queries, targets in product(range(1, LARGEST + 1), repeat=2):
        every = list(_matrices(queries, targets, canonical=level == "smoke"))
        for first in range(0, len(every), CHUNK):
            yield _batch(np.array(every[first : first + CHUNK]), classification)


@rule(
    "MATCH-13",
    source="Crouse, doi 10.1109/TAES.2016.140952; every matching of a small problem can be listed",
    request=Request(
        layers=(2, 2),
        images=(1, 4),
        queries=(1, LARGEST),
        targets=(1, LARGEST),
        denoising="never",
        matcher_options=True,
        real=False,
    ),
    needs={"match"},
    listing=small_problems,
)
def every_small_problem(port: PortUnderTest, case: LossCase) -> None:
    """For all matrices of the costs 0, 1 and 2 with up to three queries and three targets, most of which tie, the
    matching is one of the cheapest among all that there are."""
    if case.matcher.cost_gain != L1_ALONE or case.queries > LARGEST or max(case.gt_groups, default=0) > LARGEST:
        raise OutOfScope("only small problems of L1 costs are small enough to try every matching")
    matched = matched_pairs(port, case)
    assert_pairs(case, matched)
    for layer, image, queries, targets in matched:
        own = case.of_image(image)
        cost = np.abs(case.pred_bboxes[layer, image][:, None] - case.gt_bboxes[own]).sum(axis=-1) / UNIT
        total, least = float(cost[queries, targets - own.start].sum()), _least(cost)
        assert total < least + 0.5, (
            f"layer {layer}, image {image}: for the costs {((cost - cost.min()) / 2).round(2).tolist()}, rows are "
            f"queries, the pairs {sorted(zip(queries.tolist(), (targets - own.start).tolist(), strict=True))} cost "
            f"{(total - least) / 2:.3g} more than the cheapest matching"
        )


def _least(cost: np.ndarray) -> float:
    """The cost of the cheapest matching, found by trying all."""
    wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
    rows = np.arange(len(wide))
    return min(float(wide[rows, list(columns)].sum()) for columns in permutations(range(wide.shape[1]), len(wide)))


def _matrices(queries: int, targets: int, canonical: bool) -> Iterator[Matrix]:
    rows = list(product(VALUES, repeat=targets))
    for matrix in product(rows, repeat=queries):
        if not canonical or matrix == _canonical(matrix):
            yield matrix


def _canonical(matrix: Matrix) -> Matrix:
    """The first of all matrices that differ from this one by the order of rows and columns."""
    columns = permutations(range(len(matrix[0])))
    return min(tuple(sorted(tuple(row[column] for column in order) for row in matrix)) for order in columns)


def _batch(matrices: np.ndarray, classification: str) -> LossCase:
    """A case whose images have these costs, all of one shape: one half in the first layer, the other in the second."""
    images, targets = (len(matrices) + 1) // 2, matrices.shape[2]
    boxes = np.stack([_boxes(matrices[:images]), _boxes(matrices[-images:])])
    return LossCase(
        config=LossConfig(nc=1, loss_gain=LOSS_GAIN, **CLASSIFICATION[classification]),
        pred_bboxes=boxes,
        pred_scores=np.zeros((*boxes.shape[:3], 1)),
        gt_cls=np.zeros(images * targets, dtype=np.int64),
        gt_bboxes=np.tile(ORIGIN + 2 * UNIT * np.eye(4)[:targets], (images, 1)),
        gt_groups=(targets,) * images,
        matcher=MatcherConfig(cost_gain=L1_ALONE),
    )


def _boxes(matrices: np.ndarray) -> np.ndarray:
    """Queries whose L1 distances to the targets are the costs, up to a constant.

    Target t stands two units away from the origin along axis t. Query q lies v_t = 2 - c_qt units away along each of
    these axes, and along the last axis by as much as makes the sum the same for all queries. Its distance to target
    t is then a constant - 2 v_t: cost c_qt counts twice.
    """
    along = np.zeros((*matrices.shape[:2], 4))
    along[..., : matrices.shape[2]] = 2 - matrices
    along[..., 3] = 2 * LARGEST - along.sum(axis=-1)
    return ORIGIN + UNIT * along
