"""Changes of a case under which a correct loss behaves in a known way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.tolerance import rounded

GRID = 2.0**-10
"""Coordinates on this grid can be moved, mirrored and swapped without any rounding."""


def reverse_queries(case: LossCase) -> LossCase:
    """The ordinary queries in reverse order."""
    return case.change(pred_bboxes=case.pred_bboxes[:, :, ::-1].copy(), pred_scores=case.pred_scores[:, :, ::-1].copy())


def reverse_targets(case: LossCase) -> LossCase:
    """Each image's own targets in reverse order."""
    own = [np.arange(case.targets)[case.of_image(image)][::-1] for image in range(case.images)]
    return _rearrange_targets(case, np.concatenate([np.zeros(0, dtype=np.int64), *own]))


def rotate_images(case: LossCase) -> LossCase:
    """The last image comes first, with its targets and its denoising queries."""
    return select_images(case, np.roll(np.arange(case.images), 1).tolist())


def in_bfloat16(case: LossCase) -> LossCase:
    """The case with predictions rounded to bfloat16, without denoising queries."""
    boxes, logits = (rounded(each, "bfloat16") for each in (case.pred_bboxes, case.pred_scores))
    return case.change(pred_bboxes=boxes, pred_scores=logits, dtype="bfloat16", denoising=None)


def with_other_targets(case: LossCase) -> LossCase:
    """The case with other labels and other logits, as many of them, without denoising queries."""
    return case.change(gt_cls=(case.gt_cls + 1) % case.config.nc, pred_scores=-case.pred_scores, denoising=None)


def select_images(case: LossCase, order: list[int]) -> LossCase:
    """Only these images, in this order."""
    own = [np.arange(case.targets)[case.of_image(image)] for image in order]
    chosen = np.concatenate([np.zeros(0, dtype=np.int64), *own])
    groups = tuple(case.gt_groups[image] for image in order)
    denoising = None
    if case.denoising is not None:
        place = {int(target): position for position, target in enumerate(chosen)}
        denoising = replace(
            case.denoising,
            bboxes=case.denoising.bboxes[:, order],
            scores=case.denoising.scores[:, order],
            pos_idx=tuple(case.denoising.pos_idx[image] for image in order),
            gt_idx=tuple(_look_up(place, case.denoising.gt_idx[image]) for image in order),
        )
    return case.change(
        pred_bboxes=case.pred_bboxes[:, order],
        pred_scores=case.pred_scores[:, order],
        gt_cls=case.gt_cls[chosen],
        gt_bboxes=case.gt_bboxes[chosen],
        gt_groups=groups,
        denoising=denoising,
    )


def rotate_classes(case: LossCase) -> LossCase:
    """Every class becomes the next one, in logits and targets alike; a column for no object stays."""
    classes = case.config.nc
    order = [*np.roll(np.arange(classes), 1), *range(classes, case.columns)]
    denoising = case.denoising
    if denoising is not None:
        denoising = replace(denoising, scores=denoising.scores[..., order])
    return case.change(
        pred_scores=case.pred_scores[..., order], gt_cls=(case.gt_cls + 1) % classes, denoising=denoising
    )


def mirror(case: LossCase) -> LossCase:
    """The image reflected left to right: x becomes 1 - x. Exact on `snap`ped boxes."""
    return map_boxes(case, lambda boxes: np.concatenate([1.0 - boxes[..., :1], boxes[..., 1:]], axis=-1))


def transpose(case: LossCase) -> LossCase:
    """The image reflected along its diagonal: x and y, width and height change places."""
    return map_boxes(case, lambda boxes: boxes[..., [1, 0, 3, 2]])


def snap(case: LossCase) -> LossCase:
    """Every coordinate moved to the nearest multiple of `GRID`, so that moving and mirroring it is exact.

    Sizes above 0 stay above 0: a box without area is undefined in some profiles.
    """

    def nearest(boxes: np.ndarray) -> np.ndarray:
        snapped = np.round(boxes / GRID) * GRID
        snapped[..., 2:] = np.where(boxes[..., 2:] > 0, np.maximum(snapped[..., 2:], GRID), snapped[..., 2:])
        return snapped

    return map_boxes(case, nearest)


def map_boxes(case: LossCase, change: Callable[[np.ndarray], np.ndarray]) -> LossCase:
    """The same change made to all boxes: predictions, targets, denoising queries."""
    denoising = case.denoising
    if denoising is not None:
        denoising = replace(denoising, bboxes=rounded(change(denoising.bboxes), case.dtype))
    return case.change(
        pred_bboxes=rounded(change(case.pred_bboxes), case.dtype),
        gt_bboxes=rounded(change(case.gt_bboxes), case.target_dtype),
        denoising=denoising,
    )


def reverse_auxiliary_layers(case: LossCase) -> LossCase:
    """The layers before the last in reverse order."""
    order = [*range(case.layers - 2, -1, -1), case.layers - 1]
    return case.change(pred_bboxes=case.pred_bboxes[order], pred_scores=case.pred_scores[order])


def repeat_main_layer(case: LossCase) -> LossCase:
    """Every auxiliary layer replaced by a copy of the main one."""
    order = [case.layers - 1] * case.layers
    return case.change(pred_bboxes=case.pred_bboxes[order], pred_scores=case.pred_scores[order])


def repeat_first_group(case: LossCase) -> LossCase:
    """Every denoising group predicts what the first one does."""
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    width = group_width(denoising)
    slots = np.tile(np.arange(width), denoising.num_group)
    bboxes, scores = denoising.bboxes[:, :, slots], denoising.scores[:, :, slots]
    return case.change(denoising=replace(denoising, bboxes=bboxes, scores=scores))


def keep_first_group(case: LossCase) -> LossCase:
    """Only the first denoising group."""
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    width = group_width(denoising)
    kept = replace(
        denoising,
        bboxes=denoising.bboxes[:, :, :width],
        scores=denoising.scores[:, :, :width],
        pos_idx=tuple(own[: len(targets)] for own, targets in zip(denoising.pos_idx, denoising.gt_idx, strict=True)),
        num_group=1,
    )
    return case.change(denoising=kept)


def as_denoising(case: LossCase, matched: Sequence[np.ndarray]) -> LossCase:
    """The main layer's queries a second time, as one group of denoising queries.

    In every layer the matched queries come first, and only 2 n queries are kept, n being the number of targets of the
    image that has most.

    Args:
        case: a case with at least 2 n queries.
        matched: for each image the query that belongs to each target.
    """
    width = 2 * max(case.gt_groups)
    rest = [np.setdiff1d(np.arange(case.queries), own) for own in matched]
    order = np.stack([np.concatenate(each)[:width] for each in zip(matched, rest, strict=True)])
    boxes, logits = (
        np.take_along_axis(each, order[None, :, :, None], 2) for each in (case.pred_bboxes, case.pred_scores)
    )
    own_targets = [np.arange(case.targets)[case.of_image(image)] for image in range(case.images)]
    denoising = Denoising(
        bboxes=boxes[-1:],
        scores=logits[-1:],
        pos_idx=tuple(np.arange(len(own)) for own in own_targets),
        gt_idx=tuple(own_targets),
        num_group=1,
    )
    return case.change(pred_bboxes=boxes, pred_scores=logits, denoising=denoising)


def group_width(denoising: Denoising) -> int:
    """2 M, the number of slots of one group."""
    return 2 * max(len(targets) for targets in denoising.gt_idx)


def _rearrange_targets(case: LossCase, order: np.ndarray) -> LossCase:
    """Targets in another order within their images, with their denoising queries; position `i` holds `order[i]`."""
    denoising = case.denoising
    if denoising is not None:
        place = {int(target): position for position, target in enumerate(order)}
        gt_idx = tuple(np.sort(_look_up(place, own)) for own in denoising.gt_idx)
        slots = np.stack([_moved_slots(denoising, gt_idx, order, image) for image in range(case.images)])
        denoising = replace(
            denoising,
            bboxes=np.take_along_axis(denoising.bboxes, slots[None, :, :, None], axis=2),
            scores=np.take_along_axis(denoising.scores, slots[None, :, :, None], axis=2),
            gt_idx=gt_idx,
        )
    return case.change(gt_cls=case.gt_cls[order], gt_bboxes=case.gt_bboxes[order], denoising=denoising)


def _moved_slots(denoising: Denoising, gt_idx: Sequence[np.ndarray], order: np.ndarray, image: int) -> np.ndarray:
    """For each slot of an image the one whose content it takes over, so that slot j still answers for target j."""
    slots = np.arange(denoising.bboxes.shape[2])
    before = {int(target): j for j, target in enumerate(denoising.gt_idx[image])}
    taken = [before[int(order[target])] for target in gt_idx[image]]
    groups = denoising.pos_idx[image].reshape(denoising.num_group, -1)
    slots[groups] = groups[:, taken]
    return slots


def _look_up(place: dict[int, int], targets: np.ndarray) -> np.ndarray:
    return np.array([place[int(target)] for target in targets], dtype=np.int64)
