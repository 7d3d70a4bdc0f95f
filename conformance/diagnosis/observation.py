"""Observations: what a port answered on a case, in a form in which two ports can be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.tolerance import budget_shares
from detr_conformance.reference import Tracked

NEAR = 1e-3
"""Boxes that differ by less, as logits, come from the same draw."""


@dataclass(frozen=True)
class Observation:
    """What a port answered on one case.

    Attributes:
        numbers: losses, gradients and boxes by name: rounding may move them. Those of a spec come with the bounds of
            its own formulas, right or wrong.
        facts: keys, indices and the like by name: they are the same, or they are not.
    """

    numbers: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def without(self, names: Collection[str]) -> Observation:
        """The rest."""
        numbers = {name: array for name, array in self.numbers.items() if name not in names}
        return Observation(numbers, {name: fact for name, fact in self.facts.items() if name not in names})

    def differences(self, other: Observation, dtype: str) -> set[str]:
        """Names of what this port answers and the other one does not, but for rounding.

        Args:
            other: what a spec answers on the same case: its bounds decide.
            dtype: of the predictions.
        """
        unlike = {name for name, fact in self.facts.items() if other.facts.get(name) != fact}
        for name, array in self.numbers.items():
            rival = other.numbers.get(name)
            if rival is None or rival.shape != array.shape or not _are_near(array, rival, dtype):
                unlike.add(name)
        return unlike


def whole(parts: Iterable[Observation]) -> Observation:
    """All answers in one."""
    numbers, facts = dict[str, np.ndarray](), dict[str, Any]()
    for part in parts:
        numbers |= part.numbers
        facts |= part.facts
    return Observation(numbers, facts)


def noisy(case: LossCase) -> set[str]:
    """Names of what has noise on a case: nobody but the reference and its mutants draws as the reference does."""
    generator = case.generator
    noise = {"denoising labels": generator.cls_noise_ratio, "denoising boxes": generator.box_noise_scale}
    return {name for name, scale in noise.items() if scale}


def drawn(case: LossCase) -> set[str]:
    """Names of what is random on a case: noise, and where there are too many targets, which of them are denoised."""
    if max(case.gt_groups, default=0) > case.generator.num_dn:
        return {"denoised targets", "denoising labels", "denoising boxes"}
    return noisy(case)


def has_infinite_boxes(case: LossCase) -> bool:
    """Whether a predicted box is infinite."""
    boxes = [case.pred_bboxes, *([] if case.denoising is None else [case.denoising.bboxes])]
    return any(np.isinf(each).any() for each in boxes)


def left_open(right: Observation | None) -> set[str]:
    """Names of numbers that infinite boxes make NaN when all is right; in another correct order they may be finite."""
    numbers = {} if right is None else right.numbers
    return {name for name, array in numbers.items() if np.isnan(_values(array)).any()}


def has_boxes_of(one: Observation, other: Observation | None) -> bool:
    """Whether every denoised box of one is among the other's, whatever their order."""
    if other is None or any("denoising boxes" not in each.numbers for each in (one, other)):
        return False
    boxes, among = _denoised_boxes(one), _denoised_boxes(other)
    near = np.isclose(boxes[:, None], among[None], rtol=NEAR, atol=NEAR).all(axis=-1)
    return len(boxes) > 0 and bool(near.any(axis=1).all())


def _denoised_boxes(observed: Observation) -> Float[np.ndarray, "slots 4"]:
    """Boxes of the slots that are not padding: padding has no label."""
    labels, boxes = (observed.numbers[f"denoising {name}"] for name in ("labels", "boxes"))
    return _values(boxes)[labels.any(axis=-1)]


def _are_near(array: np.ndarray, rival: np.ndarray, dtype: str) -> bool:
    """Whether a number is within the budget of the rival's own formula, or within a few roundings of it.

    A wrong step that leaves the tape has no bound of its own; it rounds like everything else.
    """
    array, values = _values(array), _values(rival)
    if np.array_equal(array, values, equal_nan=True):
        return True
    if (np.isfinite(array) != np.isfinite(values)).any():  # also where the bound is infinite
        return False
    bound = rival.magnitude if isinstance(rival, Tracked) else np.zeros(rival.shape)
    both = np.maximum(np.nan_to_num(np.abs(values), posinf=0.0), bound)
    return bool((budget_shares(array, Tracked(values, 2.0 * both), dtype) <= 1.0).all())


def _values(array: np.ndarray | Tracked) -> np.ndarray:
    return array.values if isinstance(array, Tracked) else array
