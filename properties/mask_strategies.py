"""Hypothesis strategies for the masks of a case. They shrink towards one pixel, and towards images of one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_masks import Masks, Size
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.transforms import GRID

Draw = Callable[..., Any]
"""Hypothesis' DrawFn, which beartype cannot check at run time."""

PIXELS = st.integers(1, 5)
"""Rows or columns of a predicted mask. Untested by drawn cases: larger ones, which compute the same more often."""
MORE_PIXELS = st.integers(1, 7)
"""Those of an image: mostly more than a prediction has, as in DETR, where there are four times as many."""
KINDS = ("box", "dots", "nothing", "everything")
"""A target's mask: a rectangle, single pixels, empty, or all of its image."""
MASK_SCALE = 3.0
"""Logits of masks are spread this widely around 0."""

LOSS_POINTS = st.integers(1, 6)
"""Points of one target. Untested: thousands, as in training, which compute the same more often."""
COST_POINTS = st.integers(2, 6)
"""Points of one image. Untested: a single one, which nobody compares masks at on purpose."""
ON_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where points lie on the border of the image, on its middle, or on a centre or an edge of the pixels of small masks.

In training they are drawn uniformly, and almost never lie there."""


@st.composite
def with_masks(draw: Draw, case: LossCase, numbers: Numbers) -> LossCase:
    """The case with masks for its queries and its targets.

    Args:
        draw: given by Hypothesis.
        case: a case without masks.
        numbers: where logits and pixels come from.
    """
    shape = (draw(PIXELS), draw(PIXELS))
    sizes = draw(_sizes(case.images))
    pred = numbers.logits((*case.pred_bboxes.shape[:3], *shape), MASK_SCALE)
    batch: Size = (max(height for height, _ in sizes), max(width for _, width in sizes))
    gt = np.zeros((case.targets, *batch))
    for target, image in enumerate(case.batch_idx):
        height, width = sizes[image]
        gt[target, :height, :width] = _object(numbers.rng, height, width)
    return _with_denoising(case.change(masks=Masks(pred, gt, sizes)), numbers)


@st.composite
def with_points(draw: Draw, case: LossCase, numbers: Numbers) -> LossCase:
    """The case with points for the masks of its targets and for the matchers of its images.

    Args:
        draw: given by Hypothesis.
        case: a case with masks.
        numbers: where the points come from.
    """
    assert case.masks is not None  # noqa: S101  # callers draw them first
    of_targets, of_images = draw(LOSS_POINTS), draw(COST_POINTS)
    return case.change(
        masks=replace(
            case.masks,
            loss_points=_points(numbers.rng, (case.targets, of_targets)),
            cost_points=_points(numbers.rng, (case.images, of_images)),
        )
    )


def _points(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Anywhere on a grid on which they can be mirrored exactly; every fourth coordinate is one of `ON_EDGES`."""
    anywhere = np.round(rng.random((*shape, 2)) / GRID) * GRID
    return np.where(rng.random((*shape, 2)) < 0.25, rng.choice(ON_EDGES, (*shape, 2)), anywhere)


@st.composite
def _sizes(draw: Draw, images: int) -> tuple[Size, ...]:
    """Mostly of several sizes."""
    one_size, first = draw(st.booleans()), (draw(MORE_PIXELS), draw(MORE_PIXELS))
    others = [first if one_size else (draw(MORE_PIXELS), draw(MORE_PIXELS)) for _ in range(images - 1)]
    return (first, *others)


def _object(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.5, 0.3, 0.1, 0.1)))]
    if kind == "dots":
        return (rng.random((height, width)) < 0.5).astype(np.float64)
    mask = np.zeros((height, width))
    if kind == "everything":
        mask[:] = 1.0
    if kind == "box":
        top, left = rng.integers(height), rng.integers(width)
        mask[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = 1.0
    return mask


def _with_denoising(case: LossCase, numbers: Numbers) -> LossCase:
    """Masks for the denoising queries as well, if there are any."""
    if case.denoising is None or case.masks is None:
        return case
    shape = (*case.denoising.bboxes.shape[:3], *case.masks.pred_masks.shape[3:])
    return case.change(denoising=replace(case.denoising, masks=numbers.logits(shape, MASK_SCALE)))
