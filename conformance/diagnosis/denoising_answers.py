"""What a generator of denoising queries makes of a case: where everything is, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from detr_conformance.diagnosis.observation import Observation
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import Tracked

LARGEST_LOGIT = 14.0
"""A probability is clipped a millionth from 1."""


def denoising_queries(judged: PortUnderTest, case: LossCase) -> Observation:
    """Denoising queries: where everything is, and what it is."""
    if not judged.can("denoising_group"):
        return Observation({}, {})
    group = judged.denoising_group(case)
    if group is None:
        return Observation({}, {"denoising queries": None})
    facts: dict[str, Any] = {"denoising queries": (group.num_group, tuple(group.num_split))}
    facts["denoising mask"] = group.blocked.tolist()
    if case.generator.box_noise_scale:  # without it only the choice of targets is left to chance, and may recur
        facts["the same noise again"] = _repeats(judged, case, group, case.generator.seed)
        facts["the same noise from another seed"] = _repeats(judged, case, group, case.generator.seed + 1)
    facts["denoising slots"] = _lists(group.pos_idx)
    if group.gt_idx is not None:  # older generators do not say
        facts["denoised targets"] = _lists(group.gt_idx)
    if judged.can("embedding_gradient"):
        facts["embedding trained"] = _trained(group)
    return Observation({"denoising labels": group.labels, "denoising boxes": _as_logits(group.boxes)}, facts)


def _lists(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    return [np.asarray(each).tolist() for each in arrays]


def _trained(group: DenoisingGroup) -> list[float] | None:
    """The gradients of the embedding as shares of what they should be, whatever labels were drawn."""
    if group.embedding_gradient is None:
        return None
    queries = group.labels.sum(axis=(0, 1))
    return sorted(set((group.embedding_gradient[queries > 0] / queries[queries > 0, None]).ravel().tolist()))


def _as_logits(boxes: Float[np.ndarray, "images denoising 4"]) -> Float[Tracked, "images denoising 4"]:
    """With the rounding of a logit x = log(p / (1 - p)): that of p moves it by 1 / (1 - p) = 1 + exp(x) roundings."""
    return Tracked(boxes, 1.0 + np.abs(boxes) + np.exp(np.minimum(boxes, LARGEST_LOGIT)))


def _repeats(judged: PortUnderTest, case: LossCase, group: DenoisingGroup, seed: int) -> bool:
    """Whether a seed gives the boxes that the case's own gave."""
    other = judged.denoising_group(case.change(generator=replace(case.generator, seed=seed)))
    return other is not None and np.array_equal(group.boxes, other.boxes)
