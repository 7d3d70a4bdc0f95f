"""Distributions put on stage: reference boxes and bins whose losses anybody can work out.

A reference box is posed beside the target of its query, so that the offsets of the four sides are known; the logits of
each side put all mass on one or two bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_distributions import Distributions
from detr_conformance.properties.port_under_test import PortUnderTest, layers_that_need
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference.distributions import BINS, SIDES
from detr_conformance.reference.layers import Stack

Masses = Sequence[dict[int, float]]
"""For each side the probability of some bins; the others have next to none."""
NEXT_TO_NONE = -64.0
"""Their logits."""


@dataclass(frozen=True)
class Pose:
    """Where a reference box lies beside its target.

    Attributes:
        described: the pose in words.
        moved: by how much its centre lies to the right and below, as shares of the target's width and height.
        size: its size over that of the target.
        bins: the bins at which the sides of the target lie, left, top, right, bottom.
    """

    described: str
    moved: tuple[float, float]
    size: float
    bins: tuple[int, int, int, int]


POSES = (
    Pose("is the target", (0.0, 0.0), 1.0, (16, 16, 16, 16)),
    Pose("is half as large as the target", (0.0, 0.0), 0.5, (31, 31, 31, 31)),
    Pose("lies half a width to the right of the target", (0.5, 0.0), 1.0, (31, 16, 1, 16)),
    Pose("lies half a height below the target", (0.0, 0.5), 1.0, (16, 31, 16, 1)),
    Pose("lies a width to the left of the target", (-1.0, 0.0), 1.0, (0, 16, 32, 16)),
    Pose("is an eighth as large as the target", (0.0, 0.0), 0.125, (32, 32, 32, 32)),
    Pose("lies two heights above the target", (0.0, -2.0), 1.0, (16, 0, 16, 32)),
)
"""Poses in which the sides lie at bins, or beyond the outermost ones."""


def posed(case: LossCase, moved: tuple[float, float], size: float, masses: Masses) -> LossCase:
    """The case with such reference boxes and distributions for all of its queries, in all layers.

    Args:
        case: a case on stage, with distributions: query j of an image predicts its target j.
        moved: see `Pose`.
        size: see `Pose`.
        masses: of the distributions.
    """
    references = np.tile([0.5, 0.5, 0.25, 0.25], (case.images, case.queries, 1))
    for image, count in enumerate(case.gt_groups):
        own = case.gt_bboxes[case.of_image(image)]
        references[image, :count] = np.concatenate([own[:, :2] + own[:, 2:] * moved, own[:, 2:] * size], axis=1)
    corners = np.tile(logits_of(masses, case.dtype), (case.layers, case.images, case.queries, 1, 1))
    return case.change(distributions=Distributions(corners, references))


def logits_of(masses: Masses, dtype: str) -> Float[np.ndarray, "4 33"]:
    """Logits of four distributions."""
    logits = np.full((SIDES, BINS), NEXT_TO_NONE)
    for side, of_bins in enumerate(masses):
        for place, probability in of_bins.items():
            logits[side, place] = np.log(probability)
    return rounded(logits, dtype)


def layers_with(port: PortUnderTest, term: str, layers: int) -> dict[str, int]:
    """By canonical key, how many of so many layers of ordinary queries have a term."""
    having = layers_that_need(port.spec.extra_terms[term], Stack(layers))
    return {f"loss_{term}": len(having & {layers - 1}), f"loss_{term}_aux": len(having - {layers - 1})}
