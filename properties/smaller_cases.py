"""Smaller cases in which a failure still shows, where Hypothesis has not drawn the case and cannot make it smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.transforms import group_width, select_images

CHECKS = 200
"""So many smaller cases are tried."""

Smaller = Callable[[LossCase, int], LossCase]
"""The case with so many of something."""


def smallest(case: LossCase, fails: Callable[[LossCase], bool]) -> LossCase:
    """The case, made smaller along every axis for as long as it fails."""
    left = CHECKS
    candidates = _smaller(case)
    while left > 0 and (candidate := next(candidates, None)) is not None:
        left -= 1
        if fails(candidate):
            case = candidate
            candidates = _smaller(case)
    return case


def _smaller(case: LossCase) -> Iterator[LossCase]:
    """Smaller cases, the smallest of them first."""
    if case.denoising is not None:
        yield case.change(denoising=None)
    for count, with_so_many in _axes(case):
        for step in _steps(count):
            yield with_so_many(case, count - step)
    for first in _steps(case.images):  # what fails may be in a later image
        yield with_images(case, range(first, case.images))


def _axes(case: LossCase) -> Iterator[tuple[int, Smaller]]:
    """Every axis along which a case has a size, and how it is made smaller there."""
    yield case.images, lambda case, count: with_images(case, range(count))
    yield case.layers, with_layers
    yield case.queries // case.config.query_groups, with_queries
    yield max(case.gt_groups), with_targets
    yield case.config.nc, with_classes
    if case.denoising is not None:
        yield case.denoising.num_group, with_groups


def _steps(count: int) -> Iterator[int]:
    """How many to leave out at once: half of them, a quarter, down to one; never all."""
    step = count // 2
    while step:
        yield step
        step //= 2


def with_layers(case: LossCase, count: int) -> LossCase:
    """Only the last layers, of ordinary and of denoising queries."""
    config = replace(case.config, uni_match_ind=min(case.config.uni_match_ind, max(count - 2, 0)))
    denoising = case.denoising
    if denoising is not None:
        own: dict[str, Any] = {name: each[-count:] for name, each in denoising.predictions().items()}
        denoising = replace(denoising, **own)
    return case.change(config=config, denoising=denoising, **case.taken(layers=range(case.layers - count, case.layers)))


def with_queries(case: LossCase, count: int) -> LossCase:
    """Only the first queries, of each group of them."""
    groups = case.config.query_groups
    rows = np.arange(case.queries).reshape(groups, -1)[:, :count].reshape(-1)
    return case.change(**case.taken(queries=rows))


def with_images(case: LossCase, images: range) -> LossCase:
    """Only these images."""
    return _packed(select_images(case, list(images)))


def with_targets(case: LossCase, most: int) -> LossCase:
    """No more targets than this in an image: the first."""
    own = [np.arange(case.targets)[case.of_image(image)][:most] for image in range(case.images)]
    kept = np.concatenate([np.zeros(0, dtype=np.int64), *own])
    fewer = case.change(
        **case.taken(targets=kept),
        gt_cls=case.gt_cls[kept],
        gt_bboxes=case.gt_bboxes[kept],
        gt_groups=tuple(map(len, own)),
        denoising=None if case.denoising is None else _of_targets(case.denoising, kept),
    )
    return _packed(fewer)


def _of_targets(denoising: Denoising, kept: np.ndarray) -> Denoising:
    """Only the slots of these targets, which are counted anew."""
    pos_idx, gt_idx = list[np.ndarray](), list[np.ndarray]()
    for slots, targets in zip(denoising.pos_idx, denoising.gt_idx, strict=True):
        stays = np.isin(targets, kept)
        pos_idx.append(slots.reshape(denoising.num_group, -1)[:, stays].reshape(-1))
        gt_idx.append(np.searchsorted(kept, targets[stays]))
    return replace(denoising, pos_idx=tuple(pos_idx), gt_idx=tuple(gt_idx))


def _packed(case: LossCase) -> LossCase:
    """Without denoising slots that no target needs any more; without denoising queries where there is no target."""
    denoising = case.denoising
    if denoising is None:
        return case
    counts = [len(each) for each in denoising.gt_idx]
    groups, most = denoising.num_group, max(counts)
    if not most:
        return case.change(denoising=None)
    width = denoising.bboxes.shape[2] // groups
    starts = 2 * most * np.arange(groups)[:, None]
    positive = np.arange(groups)[:, None] * width + np.arange(most)
    slots = np.concatenate([positive, positive + width // 2], axis=1).reshape(-1)
    pos_idx = tuple((starts + np.arange(count)).reshape(-1) for count in counts)
    return case.change(denoising=denoising.taken(queries=slots, pos_idx=pos_idx))


def with_classes(case: LossCase, count: int) -> LossCase:
    """Only the first classes; targets of others get the last of these."""
    columns = [*range(count), *range(case.config.nc, case.columns)]
    changes: dict[str, Any] = {"pred_scores": case.pred_scores[..., columns]}
    if case.denoising is not None:
        changes["denoising"] = replace(case.denoising, scores=case.denoising.scores[..., columns])
    return case.change(nc=count, gt_cls=np.minimum(case.gt_cls, count - 1), **changes)


def with_groups(case: LossCase, count: int) -> LossCase:
    """Only the first denoising groups."""
    assert case.denoising is not None  # noqa: S101  # callers have such cases only
    denoising = case.denoising
    own = tuple(slots.reshape(denoising.num_group, -1)[:count].reshape(-1) for slots in denoising.pos_idx)
    width = group_width(denoising)
    kept = denoising.taken(queries=range(count * width), pos_idx=own, num_group=count)
    return case.change(denoising=kept)
