"""What a generator of denoising queries shows of its decisions, where no draw decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.reference import LossSpec, Tracked

LAYOUT, MASK, CHOSEN = "queries and groups", "attention mask", "targets of each image"
PADDING, LARGEST, BOXES = "boxes of padding", "largest box logit", "boxes without noise"
INVERTED = "a side below 0"
WITHOUT_TARGETS = "without targets"
FAR = -10.0
"""Logit of a side that no draw of these cases makes so small: only one below 0 comes there, by the clip."""


def names_of(case: LossCase) -> list[str]:
    """What is looked at on a case."""
    if not case.targets:
        return [WITHOUT_TARGETS]
    names = [LAYOUT, MASK, CHOSEN]
    names += [PADDING] if 0 in case.gt_groups else []
    if case.generator.box_noise_scale:
        return [*names, LARGEST if np.all(case.gt_bboxes[:, 2:] == 1.0) else INVERTED]
    return names if max(case.gt_groups) > case.generator.num_dn else [*names, BOXES]


def shown(group: DenoisingGroup | None, case: LossCase) -> dict[str, Any]:
    """All of it, of a port; None for what a generator that makes nothing lacks."""
    if not case.targets:
        return {WITHOUT_TARGETS: "nothing" if group is None else "dummy"}
    if group is None:
        return dict.fromkeys(names_of(case))
    first = int(np.argmin(case.gt_groups))
    everything: Mapping[str, Any] = {
        LAYOUT: (group.num_group, tuple(map(int, group.num_split))),
        MASK: group.blocked.tolist(),
        CHOSEN: [np.asarray(slots).tolist() for slots in group.pos_idx],
        PADDING: group.boxes[first],
        INVERTED: bool(group.boxes[0].min() < FAR),
        LARGEST: np.asarray(group.boxes.max(initial=0.0)),
        BOXES: group.boxes[0, group.pos_idx[0]],
    }
    return {name: everything[name] for name in names_of(case)}


def expected_of(spec: LossSpec, case: LossCase) -> dict[str, Any]:
    """The same of a spec, with bounds: a logit feels a rounding of p all the more, the nearer p is to 0 or 1."""
    generator = spec.denoising.generator
    if not case.targets:
        return {WITHOUT_TARGETS: generator.without_targets}
    everything = shown(ReferencePort(spec).denoising_group(case), case)
    for name in {PADDING, LARGEST, BOXES} & everything.keys():
        values = np.asarray(everything[name])
        everything[name] = Tracked(values, np.maximum(1.0 / _distance(values, generator.logit_eps), 1.0))
    return everything


def _distance(logits: np.ndarray, least: float) -> np.ndarray:
    """How far the probabilities of logits are from 0 and 1."""
    return np.asarray(np.maximum(1.0 / (1.0 + np.exp(np.abs(logits))), least / 2))
