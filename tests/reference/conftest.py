"""Training steps for the tests of the reference, and a switch for tests that call it thousands of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jaxtyping
import numpy as np
import pytest


@dataclass(frozen=True)
class Step:
    """Everything that one call of the loss takes."""

    pred_bboxes: np.ndarray
    pred_scores: np.ndarray
    batch: dict[str, Any]
    dn_bboxes: np.ndarray | None = None
    dn_scores: np.ndarray | None = None
    dn_meta: dict[str, Any] | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As `RTDETRDetectionLoss` takes them."""
        return (self.pred_bboxes, self.pred_scores), self.batch, self.dn_bboxes, self.dn_scores, self.dn_meta

    @property
    def plain(self) -> tuple[Any, ...]:
        """As `DETRLoss` takes them."""
        return self.pred_bboxes, self.pred_scores, self.batch

    @property
    def targets(self) -> tuple[Any, ...]:
        """As the methods for one layer take them."""
        return self.batch["bboxes"], self.batch["cls"], self.batch["gt_groups"]


def draw_boxes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Boxes in centre form that overlap often."""
    return np.concatenate([rng.uniform(0.3, 0.7, (*shape, 2)), rng.uniform(0.1, 0.6, (*shape, 2))], axis=-1)


def denoising_meta(gt_groups: list[int], groups: int) -> dict[str, Any]:
    """Slots and targets of denoising queries, by the rule: 2 M slots in a group, the positive ones first."""
    width, starts = max(gt_groups), np.cumsum([0, *gt_groups])
    return {
        "dn_pos_idx": [
            np.array([2 * width * group + slot for group in range(groups) for slot in range(count)], dtype=np.int64)
            for count in gt_groups
        ],
        "dn_gt_idx": [np.arange(start, start + count) for start, count in zip(starts, gt_groups, strict=False)],
        "dn_num_group": groups,
    }


@pytest.fixture
def draw_step():
    """Draws a training step from a seed; `groups` of denoising queries where that is not 0."""

    def draw(seed=0, *, layers=3, gt_groups=(2, 0, 3), queries=6, classes=4, groups=0) -> Step:
        rng, images, total = np.random.default_rng(seed), len(gt_groups), sum(gt_groups)
        batch = {
            "cls": rng.integers(0, classes, total),
            "bboxes": draw_boxes(rng, total),
            "gt_groups": list(gt_groups),
        }
        boxes, logits = draw_boxes(rng, layers, images, queries), rng.normal(0, 3, (layers, images, queries, classes))
        if not groups:
            return Step(boxes, logits, batch)
        slots = 2 * max(gt_groups) * groups
        denoising = draw_boxes(rng, layers, images, slots), rng.normal(0, 3, (layers, images, slots, classes))
        return Step(boxes, logits, batch, *denoising, denoising_meta(list(gt_groups), groups))

    return draw


@pytest.fixture
def shapes_unchecked():
    """Checks of shapes and types at run time are off: they take most of the time, or hide what the code itself says."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
