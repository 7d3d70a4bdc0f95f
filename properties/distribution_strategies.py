"""Hypothesis strategies for the distributions of a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_distributions import Distributions
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference.distributions import BINS, SIDES

Draw = Callable[..., Any]
"""Hypothesis' DrawFn, which beartype cannot check at run time."""

SCALES = st.sampled_from((2.0, 0.5, 8.0))
"""Logits of bins are spread this widely around 0."""
SHRUNK = 0.25
"""So many reference boxes are made so small that the sides of their targets lie beyond the outermost bins."""
MOVED = 0.15
"""The sizes and centres of the others are off by about so much."""


@st.composite
def with_distributions(draw: Draw, case: LossCase, numbers: Numbers) -> LossCase:
    """The case with distributions of the sides of its boxes, and of those of its denoising queries.

    Reference boxes lie near the boxes that the last layer predicts, some of them with an edge at that of a target.

    Args:
        draw: given by Hypothesis.
        case: a case without distributions.
        numbers: where logits and boxes come from.
    """
    scale, denoising = draw(SCALES), case.denoising
    own = _around(case.pred_bboxes, numbers, scale, case.target_dtype)
    if denoising is not None:
        noisy = _around(denoising.bboxes, numbers, scale, case.target_dtype)
        denoising = replace(denoising, corners=noisy.pred_corners, references=noisy.references)
    return case.change(distributions=own, denoising=denoising)


def _around(
    boxes: Float[np.ndarray, "layers images queries 4"], numbers: Numbers, scale: float, dtype: str
) -> Distributions:
    """Distributions of queries that predict these boxes."""
    return Distributions(
        pred_corners=numbers.logits((*boxes.shape[:3], SIDES, BINS), scale),
        references=rounded(_references(boxes[-1], numbers.rng), dtype),
    )


def _references(boxes: Float[np.ndarray, "images queries 4"], rng: np.random.Generator) -> np.ndarray:
    """Boxes near others, on a grid of 1/1024, which some of them share with the boxes of a case."""
    moved = boxes + rng.normal(0.0, MOVED, boxes.shape) * boxes[..., 2:].repeat(2, -1)[..., [0, 2, 1, 3]]
    size = np.maximum(np.abs(moved[..., 2:]), 2.0**-6)
    small = rng.random(size.shape[:-1]) < SHRUNK
    size = np.where(small[..., None], np.maximum(size / 8.0, 2.0**-8), size)
    return np.round(np.concatenate([moved[..., :2], size], axis=-1) * 1024) / 1024
