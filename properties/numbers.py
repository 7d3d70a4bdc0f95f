"""The numbers of a case, drawn from a seeded generator once its structure is fixed.

Hypothesis draws the structure and a seed; the arrays come from here in one go. That keeps large cases quick, and a
shrunk case readable: its numbers lie on a coarse grid (0.25, -1.5), and few of them are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.tolerance import rounded

Boxes = Float[np.ndarray, "count 4"]
Targets = Float[np.ndarray, "targets 4"]

SPECIAL_SHARE = 0.25
"""Share of boxes that are special, where a case has special boxes at all."""


@dataclass(frozen=True)
class Numbers:
    """A source of boxes and logits.

    Attributes:
        rng: where they come from.
        grid: coordinates are multiples of 1 / grid, logits of 1 / 4; 0 for no grid.
        special: kinds of special boxes, a subset of `SPECIAL_BOXES`.
        dtype: all numbers are rounded to what it can hold.
    """

    rng: np.random.Generator
    grid: int
    special: Sequence[str]
    dtype: str

    def boxes(self, count: int) -> Boxes:
        """Boxes anywhere in the image, some of them special, in centre form."""
        # Untested: boxes wider than half of the image, and but for "border" those that reach over its edge.
        size = self._on_grid(self.rng.uniform(0.05, 0.45, (count, 2)), lowest=True)
        centre = self._on_grid(self.rng.uniform(0.25, 0.75, (count, 2)))
        return self._finish(np.concatenate([centre, size], axis=1))

    def boxes_near(self, targets: Targets, count: int) -> Boxes:
        """Boxes that mostly lie near one of the targets; anywhere if there is none."""
        elsewhere = self.boxes(count)
        if len(targets) == 0:
            return elsewhere
        chosen = targets[self.rng.integers(len(targets), size=count)]
        moved = self._on_grid(chosen + self.rng.normal(0.0, 0.06, chosen.shape))
        # Centres beyond 0 or 1 are thrown back. Untested: a centre outside the image, which no sigmoid predicts.
        moved[:, :2] = 1.0 - np.abs(1.0 - np.abs(moved[:, :2]))
        # Untested: a small or inverted size by chance; "tiny", "no_area" and "inverted" are for these.
        moved[:, 2:] = np.where(moved[:, 2:] > 0.02, moved[:, 2:], np.abs(chosen[:, 2:]) + 0.0625)
        near = self.rng.random(count) < 0.75
        return self._finish(np.where(near[:, None], moved, elsewhere), targets)

    def logits(self, shape: tuple[int, ...], scale: float) -> Float[np.ndarray, "..."]:
        """Normally distributed logits; a few of them exactly 0."""
        logits = self.rng.normal(0.0, scale, shape)
        if self.grid:
            logits = np.round(logits * 4) / 4
        return rounded(logits, self.dtype)

    def _on_grid(self, coordinates: Float[np.ndarray, "..."], lowest: bool = False) -> Float[np.ndarray, "..."]:
        if not self.grid:
            return coordinates
        cells = np.round(coordinates * self.grid)
        return (np.maximum(cells, 1) if lowest else cells) / self.grid

    def _finish(self, boxes: Boxes, targets: Targets | None = None) -> Boxes:
        """Make some boxes special, and round all to the dtype."""
        for row in range(len(boxes)) if self.special else ():
            if self.rng.random() < SPECIAL_SHARE:
                boxes[row] = self._special(boxes, row, targets)
        return rounded(boxes, self.dtype)

    def _special(self, boxes: Boxes, row: int, targets: Targets | None) -> Float[np.ndarray, " 4"]:
        x, y, width, height = boxes[row]
        kind = self.special[int(self.rng.integers(len(self.special)))]
        if kind == "duplicate":
            return boxes[self.rng.integers(len(boxes))].copy()
        if kind == "equal":
            return boxes[row] if targets is None else targets[self.rng.integers(len(targets))].copy()
        return np.array(
            {
                "tiny": (x, y, 2.0**-10, 2.0**-9),
                "border": (abs(width) / 2, 1.0 - height / 2, abs(width), height),
                "no_area": (x, y, 0.0, height),
                "inverted": (x, y, -width, height),
            }[kind]
        )


SPECIAL_BOXES = ("tiny", "border", "no_area", "inverted", "duplicate", "equal")
"""Boxes that bugs hide behind: tiny, on the border of the image, without area, turned inside out (predictions only),
twice the same, and predicted exactly right."""
