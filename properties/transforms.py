"""Changes of a case under which a correct loss behaves in a known way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from detr_conformance.properties.case import PREDICTED, Denoising, Distributions, LossCase, Masks
from detr_conformance.properties.tolerance import rounded

GRID = 2.0**-10
"""Coordinates on this grid can be moved, mirrored and swapped without any rounding."""


def reverse_queries(case: LossCase) -> LossCase:
    """The ordinary queries in reverse order."""
    return case.change(**case.taken(queries=range(case.queries)[::-1]))


def reverse_targets(case: LossCase) -> LossCase:
    """Each image's own targets in reverse order."""
    own = [np.arange(case.targets)[case.of_image(image)][::-1] for image in range(case.images)]
    return _rearrange_targets(case, np.concatenate([np.zeros(0, dtype=np.int64), *own]))


def rotate_images(case: LossCase) -> LossCase:
    """The last image comes first, with its targets and its denoising queries."""
    return select_images(case, np.roll(np.arange(case.images), 1).tolist())


def in_bfloat16(case: LossCase) -> LossCase:
    """The case with predictions rounded to bfloat16, and all else to float32, without denoising queries."""
    own = ("pred_bboxes", "pred_scores", "gt_bboxes")
    changes: dict[str, Any] = {name: _rounded_for_half(name, getattr(case, name)) for name in own}
    for field, record in case.records().items():
        arrays: dict[str, Any] = {name: _rounded_for_half(name, each) for name, each in record.arrays().items()}
        changes[field] = replace(record, **arrays)
    return case.change(dtype="bfloat16", denoising=None, **changes)


def _rounded_for_half(name: str, array: np.ndarray) -> np.ndarray:
    """What a call in half precision is given under this name: only predictions are in bfloat16."""
    return rounded(array, "bfloat16" if name.startswith(PREDICTED) else "float32")


def with_other_targets(case: LossCase) -> LossCase:
    """The case with other labels and other logits, as many of them, without denoising queries."""
    return case.change(gt_cls=(case.gt_cls + 1) % case.config.nc, pred_scores=-case.pred_scores, denoising=None)


def with_transposed_targets(case: LossCase) -> LossCase:
    """The case with other labels, boxes and masks: x and y of boxes change places, objects and what is beside them too.

    Denoising queries are the same.
    """
    masks = None if case.masks is None else case.masks.of_complements(case.batch_idx)
    labels = (case.gt_cls + 1) % case.config.nc
    return case.change(gt_cls=labels, gt_bboxes=case.gt_bboxes[:, [1, 0, 3, 2]], masks=masks)


def many_images(case: LossCase, pairs: int) -> LossCase:
    """The images of the case over and over, until there are at least so many pairs; as it is where it has none."""
    own = sum(min(count, case.queries) for count in case.gt_groups)
    return select_images(case, [*range(case.images)] * -(-pairs // own)) if own else case


def batches_between(case: LossCase, other_subsets: bool) -> list[LossCase]:
    """What a loss object may see between two calls with the case, and must not mix up with it.

    Other targets, as many, also beside the same denoising queries; the same images the other way round, and twice as
    many; with `other_subsets` the same batch with other targets denoised.
    """
    other, images = with_other_targets(case), [*range(case.images)]
    subsets = denoising_all_but_one(case) if other_subsets else []
    turned = select_images(other, images[::-1])
    return [other, turned, select_images(other, 2 * images), with_transposed_targets(case), *subsets]


def denoising_all_but_one(case: LossCase) -> list[LossCase]:
    """The case with all denoised targets of each image but the first, then but the last; none if there are too few.

    Both have the same slots, and as many denoised targets.
    """
    if case.denoising is None or max(map(len, case.denoising.gt_idx)) < 2:
        return []
    return [case.change(denoising=_without_target(case.denoising, place)) for place in (0, -1)]


def _without_target(denoising: Denoising, place: int) -> Denoising:
    """Without the target in this place of each image that has several; its last slot of each group is left over."""
    pos_idx, gt_idx = [], []
    for slots, own in zip(denoising.pos_idx, denoising.gt_idx, strict=True):
        kept = np.delete(own, place) if len(own) > 1 else own
        pos_idx.append(slots.reshape(denoising.num_group, len(own))[:, : len(kept)].ravel())
        gt_idx.append(kept)
    return replace(denoising, pos_idx=tuple(pos_idx), gt_idx=tuple(gt_idx))


def with_nan_logits(case: LossCase) -> list[LossCase]:
    """The case with NaN for all logits of the second query, and for that of the last column alone."""
    broken = []
    for columns in (slice(None), slice(-1, None)):
        logits = case.pred_scores.copy()
        logits[:, :, 1, columns] = np.nan
        broken.append(case.change(pred_scores=logits))
    return broken


def without_targets(case: LossCase) -> LossCase:
    """The case without any target, and without denoising queries."""
    return case.change(
        **case.taken(targets=[]),
        gt_cls=np.zeros(0, dtype=np.int64),
        gt_bboxes=np.zeros((0, 4)),
        gt_groups=(0,) * case.images,
        denoising=None,
    )


def select_images(case: LossCase, order: list[int]) -> LossCase:
    """Only these images, in this order."""
    own = [np.arange(case.targets)[case.of_image(image)] for image in order]
    chosen = np.concatenate([np.zeros(0, dtype=np.int64), *own])
    groups = tuple(case.gt_groups[image] for image in order)
    denoising = None
    if case.denoising is not None:
        place = {int(target): position for position, target in enumerate(chosen)}
        denoising = case.denoising.taken(
            images=order,
            pos_idx=tuple(case.denoising.pos_idx[image] for image in order),
            gt_idx=tuple(_look_up(place, case.denoising.gt_idx[image]) for image in order),
        )
    return case.change(
        **case.taken(images=order, targets=chosen),
        gt_cls=case.gt_cls[chosen],
        gt_bboxes=case.gt_bboxes[chosen],
        gt_groups=groups,
        denoising=denoising,
    )


def shared_out(case: LossCase, batches: int) -> list[LossCase]:
    """Its images in order, as so many batches; those that come last may have one more.

    A batch without a target has no denoising queries: no generator makes any.
    """
    ends = [case.images * end // batches for end in range(batches + 1)]
    parts = [select_images(case, list(range(*each))) for each in pairwise(ends)]
    return [each if each.targets else each.change(denoising=None) for each in parts]


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
    mirrored = map_boxes(case, lambda boxes: np.concatenate([1.0 - boxes[..., :1], boxes[..., 1:]], axis=-1))
    mirrored = map_corners(mirrored, lambda corners: corners[..., [2, 1, 0, 3], :])  # left becomes right
    return _with_masks(mirrored, Masks.mirrored, lambda masks: masks[..., ::-1])


def transpose(case: LossCase) -> LossCase:
    """The image reflected along its diagonal: x and y, width and height change places."""
    transposed = map_boxes(case, lambda boxes: boxes[..., [1, 0, 3, 2]])
    transposed = map_corners(transposed, lambda corners: corners[..., [1, 0, 3, 2], :])  # left becomes top
    return _with_masks(transposed, Masks.transposed, lambda masks: masks.swapaxes(-2, -1))


def _with_masks(
    case: LossCase, change: Callable[[Masks], Masks], of_denoising: Callable[[np.ndarray], np.ndarray]
) -> LossCase:
    """The case with all of its masks changed, if it has any."""
    if case.masks is None:
        return case
    denoising = case.denoising
    if denoising is not None and denoising.masks is not None:
        denoising = replace(denoising, masks=of_denoising(denoising.masks).copy())
    return case.change(masks=change(case.masks), denoising=denoising)


def map_corners(case: LossCase, change: Callable[[np.ndarray], np.ndarray]) -> LossCase:
    """The same change made to the distributions of all sides, if the case has any."""
    given, denoising = case.distributions, case.denoising
    if given is None:
        return case
    if denoising is not None and denoising.corners is not None:
        denoising = replace(denoising, corners=rounded(change(denoising.corners), case.dtype))
    changed = replace(given, pred_corners=rounded(change(given.pred_corners), case.dtype))
    return case.change(distributions=changed, denoising=denoising)


def images_of_one_size(case: LossCase) -> LossCase:
    """Every image as large as the batch, where masks give them sizes."""
    return case if case.masks is None else case.change(masks=case.masks.of_one_size())


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
    """The same change made to all boxes: predictions, targets, denoising queries, reference boxes."""
    denoising, given = case.denoising, case.distributions
    if denoising is not None:
        denoising = replace(denoising, bboxes=rounded(change(denoising.bboxes), case.dtype))
        if denoising.references is not None:
            denoising = replace(denoising, references=rounded(change(denoising.references), case.target_dtype))
    if given is not None:
        given = replace(given, references=rounded(change(given.references), case.target_dtype))
    return case.change(
        distributions=given,
        pred_bboxes=rounded(change(case.pred_bboxes), case.dtype),
        gt_bboxes=rounded(change(case.gt_bboxes), case.target_dtype),
        denoising=denoising,
    )


def reverse_auxiliary_layers(case: LossCase) -> LossCase:
    """The layers before the last in reverse order."""
    return case.change(**case.taken(layers=[*range(case.layers - 2, -1, -1), case.layers - 1]))


def repeat_main_layer(case: LossCase) -> LossCase:
    """Every auxiliary layer replaced by a copy of the main one."""
    return case.change(**case.taken(layers=[case.layers - 1] * case.layers))


def repeat_first_group(case: LossCase) -> LossCase:
    """Every denoising group predicts what the first one does."""
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    width = group_width(denoising)
    slots = np.tile(np.arange(width), denoising.num_group)
    return case.change(denoising=denoising.taken(queries=slots))


def keep_first_group(case: LossCase) -> LossCase:
    """Only the first denoising group."""
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    width = group_width(denoising)
    kept = denoising.taken(
        queries=range(width),
        pos_idx=tuple(own[: len(targets)] for own, targets in zip(denoising.pos_idx, denoising.gt_idx, strict=True)),
        num_group=1,
    )
    return case.change(denoising=kept)


def as_denoising(case: LossCase, matched: Sequence[np.ndarray], layers: int = 1) -> LossCase:
    """The queries of the last layers a second time, as one group of denoising queries.

    In every layer the matched queries come first, and only 2 n queries are kept, n being the number of targets of the
    image that has most.

    Args:
        case: a case with at least 2 n queries.
        matched: for each image the query that belongs to each target.
        layers: number of layers of denoising queries.
    """
    width = 2 * max(case.gt_groups)
    rest = [np.setdiff1d(np.arange(case.queries), own) for own in matched]
    order = np.stack([np.concatenate(each)[:width] for each in zip(matched, rest, strict=True)])
    arranged = case.taken(queries=order)
    own_targets = [np.arange(case.targets)[case.of_image(image)] for image in range(case.images)]
    denoising = Denoising(
        bboxes=arranged["pred_bboxes"][-layers:],
        scores=arranged["pred_scores"][-layers:],
        pos_idx=tuple(np.arange(len(own)) for own in own_targets),
        gt_idx=tuple(own_targets),
        num_group=1,
        masks=None if case.masks is None else arranged["masks"].pred_masks[-layers:],
        **_distributions_of_denoising(arranged.get("distributions"), layers),
    )
    return case.change(**arranged, denoising=denoising)


def _distributions_of_denoising(given: Distributions | None, layers: int) -> dict[str, np.ndarray]:
    """Those of the last layers by field of denoising queries."""
    return {} if given is None else {"corners": given.pred_corners[-layers:], "references": given.references}


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
        denoising = denoising.taken(queries=slots, gt_idx=gt_idx)
    return case.change(
        **case.taken(targets=order), gt_cls=case.gt_cls[order], gt_bboxes=case.gt_bboxes[order], denoising=denoising
    )


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
