"""Checks of arguments: each says which argument is wrong, what it is, and what was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

GAINS = ("class", "bbox", "giou")

# The targets come as arguments of some functions and as entries of a batch in others.
LABELS = "gt_cls (batch['cls'])"
BOXES = "gt_bboxes (batch['bboxes'])"


def check_array(name: str, array: object) -> None:
    """A NumPy array of real numbers, of any precision.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, expected a NumPy array")
    if not np.can_cast(array.dtype, np.float64, casting="same_kind"):
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")


def check_number(name: str, number: object) -> None:
    """A finite real number.

    Raises:
        TypeError: it is no real number.
        ValueError: it is not finite.
    """
    if not isinstance(number, Real):
        raise TypeError(f"{name} is {number!r}, expected a number")
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}, expected a finite number")


def check_count(name: str, count: object, least: int = 0) -> None:
    """An integer that is not too small.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than `least`.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name} is {count!r}, expected an integer")
    if count < least:
        raise ValueError(f"{name} is {count}, expected at least {least}")


def check_predictions(
    pred_bboxes: np.ndarray,
    pred_scores: np.ndarray,
    axes: str,
    classes: int | None = None,
    names: tuple[str, str] = ("pred_bboxes", "pred_scores"),
) -> None:
    """Boxes and logits of the same layers, images and queries, none of them zero in number.

    Args:
        pred_bboxes: must have shape (*axes, 4).
        pred_scores: must have shape (*axes, classes).
        axes: names of the leading axes, such as "layers images queries".
        classes: how many classes there must be; None for any number of them.
        names: what the two are called where they come from.

    Raises:
        TypeError: one of them is no array of numbers.
        ValueError: a shape does not fit.
    """
    leading = axes.split()
    for name, predictions in zip(names, (pred_bboxes, pred_scores), strict=True):
        check_array(name, predictions)
    boxes, scores = pred_bboxes.shape, pred_scores.shape
    if len(boxes) != len(leading) + 1 or boxes[-1] != 4:
        raise ValueError(f"{names[0]} has shape {boxes}, expected ({', '.join(leading)}, 4)")
    if len(scores) != len(boxes) or scores[:-1] != boxes[:-1]:
        raise ValueError(
            f"{names[1]} has shape {scores}, expected {boxes[:-1]} as in {names[0]}, and an axis of classes"
        )
    for axis, size in zip([*leading, "classes"], scores, strict=True):
        if size == 0:
            raise ValueError(f"{names[1]} has shape {scores}: expected at least one of the {axis}")
    if classes is not None and scores[-1] != classes:
        raise ValueError(f"{names[1]} has shape {scores}, expected nc = {classes} classes on its last axis")


def check_targets(
    gt_bboxes: np.ndarray, gt_cls: np.ndarray, gt_groups: Sequence[int], images: int | None, classes: int
) -> None:
    """Finite boxes with a class each, divided among the images.

    Args:
        gt_bboxes: must have shape (targets, 4).
        gt_cls: must have shape (targets,), of any type of integer.
        gt_groups: number of targets of each image.
        images: number of images; None for as many as `gt_groups` has.
        classes: number of classes.

    Raises:
        TypeError: something is no array of numbers, or labels or counts are not integers.
        ValueError: a shape, a class or a count does not fit, or a box is not finite.
    """
    check_counts(gt_groups, images)
    check_array(LABELS, gt_cls)
    check_array(BOXES, gt_bboxes)
    total = sum(gt_groups)
    if gt_cls.size and not np.issubdtype(gt_cls.dtype, np.integer):
        raise TypeError(f"{LABELS} has dtype {gt_cls.dtype}, expected integers")
    if gt_cls.shape != (total,):
        raise ValueError(f"{LABELS} has shape {gt_cls.shape}, expected ({total},) as gt_groups sums")
    if gt_bboxes.shape != (total, 4):
        raise ValueError(f"{BOXES} has shape {gt_bboxes.shape}, expected ({total}, 4) as gt_groups sums")
    for row in np.flatnonzero(~np.isfinite(gt_bboxes).all(axis=-1))[:1]:
        raise ValueError(f"{BOXES} has {gt_bboxes[row].tolist()} at [{row}], expected finite numbers")
    for row in np.flatnonzero((gt_cls < 0) | (gt_cls >= classes))[:1]:
        raise ValueError(f"{LABELS} has {gt_cls[row]} at [{row}], expected a class from 0 to {classes - 1}")


def check_counts(gt_groups: Sequence[int], images: int | None) -> None:
    """One count of targets for each image.

    Raises:
        TypeError: it is no sequence, or a count is not an integer.
        ValueError: a count is negative, or there are more or fewer counts than images.
    """
    if not isinstance(gt_groups, (Sequence, np.ndarray)):
        raise TypeError(f"gt_groups is {gt_groups!r}, expected a count for each image")
    for image, count in enumerate(gt_groups):
        check_count(f"gt_groups[{image}]", count)
    if images is not None and len(gt_groups) != images:
        raise ValueError(f"gt_groups has {len(gt_groups)} counts, expected one for each of {images} images")


def check_mask_gains(name: str, gains: Mapping[str, float], asked_by: str) -> None:
    """A number for mask and dice, which `asked_by` needs; errors as of `check_gains`."""
    for term in ("mask", "dice"):
        if term not in gains:
            raise KeyError(f"{name} has the keys {sorted(gains)}: {term!r} is missing, needed for {asked_by}")
        check_number(f"{name}[{term!r}]", gains[term])


def check_masks(masks: Any, gt_mask: Any, leading: Sequence[int], axes: str, targets: int) -> None:
    """Both kinds of masks or neither: a map of logits for each query, and one of 0 and 1 for each target.

    Args:
        masks: must have shape (*leading, height, width).
        gt_mask: must have shape (targets, height, width), with a height and width of their own.
        leading: sizes of the leading axes, as the logits of the classes have them.
        axes: their names, such as "layers images queries".
        targets: number of targets.

    Raises:
        TypeError: one of them is no array of numbers.
        ValueError: one is given without the other, a shape does not fit, or a target's mask has another value.
    """
    if masks is None and gt_mask is None:
        return
    for name, array, other in (("masks", masks, "gt_mask"), ("gt_mask", gt_mask, "masks")):
        if array is None:
            raise ValueError(f"{name} is None, expected masks beside {other}: both or neither")
        check_array(name, array)
    names, expected = ", ".join([*axes.split(), "height", "width"]), ", ".join(map(str, leading))
    if masks.ndim != len(leading) + 2 or masks.shape[:-2] != tuple(leading) or not all(masks.shape[-2:]):
        raise ValueError(f"masks has shape {masks.shape}, expected ({names}) = ({expected}, ...), at least 1 x 1")
    if gt_mask.ndim != 3 or len(gt_mask) != targets or not all(gt_mask.shape[1:]):
        raise ValueError(
            f"gt_mask has shape {gt_mask.shape}, expected ({targets} targets, height, width), at least 1 x 1"
        )
    for wrong in gt_mask[(gt_mask != 0) & (gt_mask != 1)][:1]:
        raise ValueError(f"gt_mask has {wrong}, expected 0 and 1")


def check_gains(name: str, gains: Mapping[str, float]) -> None:
    """A number for each of class, bbox and giou.

    Raises:
        KeyError: one of them is missing.
        TypeError: one of them is no number.
        ValueError: one of them is not finite.
    """
    for term in GAINS:
        if term not in gains:
            raise KeyError(f"{name} has the keys {sorted(gains)}: {term!r} is missing")
        check_number(f"{name}[{term!r}]", gains[term])


def entry(mapping: Mapping[str, Any], name: str, key: str) -> Any:  # a batch holds anything
    """`mapping[key]`, or an error that says which mapping lacks it and what it has.

    Raises:
        KeyError: the key is missing.
        TypeError: the mapping is none.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{name} is a {type(mapping).__name__}, expected a mapping with the key {key!r}")
    if key not in mapping:
        raise KeyError(f"{name} has the keys {sorted(mapping)}: {key!r} is missing")
    return mapping[key]


def check_indices(name: str, indices: object, size: int | None = None, first: int = 0) -> None:
    """A row of integers from `first` to `size` - 1; without `size` there is no limit above.

    Raises:
        TypeError: they are no integers.
        ValueError: one of them is out of range, or they are no row.
    """
    row = np.asarray(indices)
    if row.ndim != 1:
        raise ValueError(f"{name} has shape {row.shape}, expected one axis")
    if row.size and not np.issubdtype(row.dtype, np.integer):
        raise TypeError(f"{name} has dtype {row.dtype}, expected integers")
    if row.size and (row.min() < first or (size is not None and row.max() >= size)):
        limit = "" if size is None else f" to {size - 1}"
        raise ValueError(f"{name} is {row.tolist()}, expected indices from {first}{limit}")


def check_matching(match_indices: Sequence[Any], images: int, queries: int, targets: int) -> None:
    """For each image two equally long rows of indices that exist.

    Raises:
        TypeError: an index is no integer.
        ValueError: the number of images or pairs does not fit, or an index is out of range.
    """
    if len(match_indices) != images:
        raise ValueError(f"match_indices has {len(match_indices)} entries, expected one for each of {images} images")
    for image, pair in enumerate(match_indices):
        name = f"match_indices[{image}]"
        if len(pair) != 2:
            raise ValueError(f"{name} has {len(pair)} entries, expected 2: queries and targets")
        check_indices(f"{name}[0]", pair[0], queries)
        check_indices(f"{name}[1]", pair[1], targets)
        if len(pair[0]) != len(pair[1]):
            raise ValueError(f"{name} has {len(pair[0])} queries for {len(pair[1])} targets")


def check_dn_indices(
    dn_pos_idx: Sequence[Any], dn_num_group: int, gt_groups: Sequence[int], dn_gt_idx: Sequence[Any] | None
) -> None:
    """For each image a row of slots, and where given a row of that image's own targets.

    Raises:
        TypeError: an index or a number is no integer.
        ValueError: the number of images does not fit, there is no group, or an index is out of range.
    """
    check_count("dn_num_group", dn_num_group, least=1)
    check_counts(gt_groups, len(dn_pos_idx))
    for image, slots in enumerate(dn_pos_idx):
        check_indices(f"dn_pos_idx[{image}]", slots)
    if dn_gt_idx is None:
        return
    if len(dn_gt_idx) != len(gt_groups):
        raise ValueError(f"dn_gt_idx has {len(dn_gt_idx)} entries, expected one for each of {len(gt_groups)}")
    for image, targets in enumerate(dn_gt_idx):
        first = sum(gt_groups[:image])
        check_indices(f"dn_gt_idx[{image}]", targets, first + gt_groups[image], first)
