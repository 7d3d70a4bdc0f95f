"""Observations: everything that a port answers on a case, in a form in which two ports can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged, Returned
from detr_conformance.properties.port import Matching
from detr_conformance.properties.tolerance import budget_shares
from detr_conformance.reference import Losses, Tracked, magnitude

USUAL = ("float32", "float64")
"""What a loss may be in without a word: of these ports choose freely."""


@dataclass(frozen=True)
class Observation:
    """What a port answered on one case.

    Attributes:
        numbers: losses, gradients and boxes by name: rounding may move them.
        facts: keys, indices and the like by name: they are the same, or they are not.
    """

    numbers: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def differences(self, other: Observation, expected: Losses, dtype: str) -> set[str]:
        """Names of what this port answers and the other one does not, but for rounding.

        Args:
            other: what another port answered on the same case.
            expected: what the reference says of the case: its bounds are those of both ports.
            dtype: of the predictions.
        """
        unlike = {name for name, fact in self.facts.items() if other.facts.get(name) != fact}
        for name, array in self.numbers.items():
            rival = other.numbers.get(name)
            if (
                rival is None
                or rival.shape != array.shape
                or not _are_near(array, rival, _bound(name, expected), dtype)
            ):
                unlike.add(name)
        return unlike


def observe(judged: Judged, case: LossCase) -> Observation:
    """Ask a port for everything that it declares and that the case has.

    Raises:
        PortError: it gives no answer.
    """
    returned = judged.loss(case)
    numbers = dict(returned.values)
    if judged.can("gradients"):
        named = ((key, name) for key in returned.values for name in returned.inputs())
        numbers |= {f"{key} by {name}": returned.gradient(key, name) for key, name in named}
    facts: dict[str, Any] = {
        "keys": tuple(sorted(returned.values)),
        "odd losses": _odd_losses(returned),
        "changed inputs": tuple(returned.result.mutated),
    }
    if judged.can("match"):
        facts["matching"] = [_pairs(layer) for layer in judged.match(case)]
    if judged.can("denoising_indices") and case.denoising is not None:
        facts["denoising pairs"] = _pairs(judged.denoising_indices(case))
    if judged.can("denoising_group"):
        _add_group(judged, case, numbers, facts)
    return Observation(numbers, facts)


def _add_group(judged: Judged, case: LossCase, numbers: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Denoising queries: where everything is, and what it is."""
    group = judged.denoising_group(case)
    facts["denoising queries"] = None if group is None else (group.num_group, tuple(group.num_split))
    if group is not None:
        numbers |= {"denoising labels": group.labels, "denoising boxes": group.boxes}
        facts["denoising mask"] = group.blocked.tolist()
        facts["denoising slots"] = _lists(group.pos_idx)
        facts["denoised targets"] = None if group.gt_idx is None else _lists(group.gt_idx)


def _odd_losses(returned: Returned) -> list[tuple[str, tuple[int, ...], str]]:
    """Losses under keys without a meaning, of another shape than (), or of less than single precision."""
    losses, dtypes = returned.result.losses, returned.result.dtypes
    every = [(key, np.shape(loss), dtypes.get(key, USUAL[0])) for key, loss in losses.items()]
    return sorted(
        (key, shape, dtype)
        for key, shape, dtype in every
        if returned.canonical(key) is None or shape or dtype not in USUAL
    )


def _pairs(images: Iterable[Matching]) -> list[list[tuple[int, int]]]:
    return [sorted(zip(map(int, queries), map(int, targets), strict=True)) for queries, targets in images]


def _lists(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    return [np.asarray(each).tolist() for each in arrays]


def _bound(name: str, expected: Losses) -> np.ndarray | float:
    """The reference's bound of a loss or of a gradient; 0 for anything else."""
    key, _, by = name.partition(" by ")
    loss = expected.get(key)
    if loss is None or (by and by not in loss.gradients):
        return 0.0
    return magnitude(loss.gradients[by]) if by else loss.magnitude


def _are_near(array: np.ndarray, rival: np.ndarray, bound: np.ndarray | float, dtype: str) -> bool:
    """Whether each is within the budget of the other.

    The bound is that of the right formula; a wrong one that comes to more has at least a rounding of what it comes to.
    """
    alike = np.isnan(array) & np.isnan(rival)
    array, rival = np.where(alike, 0.0, array), np.where(alike, 0.0, rival)
    both = np.maximum(np.nan_to_num(np.abs(rival), posinf=0.0), bound)
    return bool((budget_shares(array, Tracked(rival, 2.0 * both), dtype) <= 1.0).all())
