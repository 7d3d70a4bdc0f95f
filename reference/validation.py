"""Checks of arguments: each says which argument is wrong, what it is, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GAINS = ("class", "bbox", "giou")


def check_predictions(pred_bboxes: np.ndarray, pred_scores: np.ndarray, axes: str) -> None:
    """Boxes and logits of the same layers, images and queries, none of them zero in number.

    Args:
        pred_bboxes: must have shape (*axes, 4).
        pred_scores: must have shape (*axes, classes).
        axes: names of the leading axes, such as "layers images queries".

    Raises:
        ValueError: a shape does not fit.
    """
    names = axes.split()
    if np.ndim(pred_bboxes) != len(names) + 1 or np.shape(pred_bboxes)[-1] != 4:
        raise ValueError(f"pred_bboxes has shape {np.shape(pred_bboxes)}, expected ({', '.join(names)}, 4)")
    if np.ndim(pred_scores) != len(names) + 1 or np.shape(pred_scores)[:-1] != np.shape(pred_bboxes)[:-1]:
        raise ValueError(
            f"pred_scores has shape {np.shape(pred_scores)}, expected {np.shape(pred_bboxes)[:-1]} "
            f"as in pred_bboxes, and an axis of classes"
        )
    for name, size in zip([*names, "classes"], np.shape(pred_scores), strict=True):
        if size == 0:
            raise ValueError(f"pred_scores has shape {np.shape(pred_scores)}: expected at least one of the {name}")


def check_targets(
    gt_bboxes: np.ndarray, gt_cls: np.ndarray, gt_groups: Sequence[int], images: int, classes: int
) -> None:
    """Finite boxes with a class each, divided among the images.

    Raises:
        TypeError: labels or counts are not integers.
        ValueError: a shape, a class or a count does not fit, or a box is not finite.
    """
    check_counts(gt_groups, images)
    total = sum(gt_groups)
    if not np.issubdtype(np.asarray(gt_cls).dtype, np.integer) and np.size(gt_cls):
        raise TypeError(f"batch['cls'] has dtype {np.asarray(gt_cls).dtype}, expected integers")
    if np.shape(gt_cls) != (total,):
        raise ValueError(f"batch['cls'] has shape {np.shape(gt_cls)}, but gt_groups sums to {total}")
    if np.shape(gt_bboxes) != (total, 4):
        raise ValueError(f"batch['bboxes'] has shape {np.shape(gt_bboxes)}, expected ({total}, 4) as gt_groups sums")
    if not np.all(np.isfinite(gt_bboxes)):
        row = int(np.flatnonzero(~np.isfinite(gt_bboxes).all(axis=-1))[0])
        raise ValueError(f"batch['bboxes'][{row}] is {np.asarray(gt_bboxes)[row].tolist()}, expected finite numbers")
    for row in np.flatnonzero((np.asarray(gt_cls) < 0) | (np.asarray(gt_cls) >= classes))[:1]:
        raise ValueError(f"batch['cls'][{row}] is {gt_cls[row]}, expected a class from 0 to {classes - 1}")


def check_counts(gt_groups: Sequence[int], images: int) -> None:
    """One count of targets for each image.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count is negative, or there are more or fewer counts than images.
    """
    for image, count in enumerate(gt_groups):
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(f"gt_groups[{image}] is {count!r}, expected an integer")
        if count < 0:
            raise ValueError(f"gt_groups[{image}] is {count}, expected a count of at least 0")
    if len(gt_groups) != images:
        raise ValueError(f"gt_groups has {len(gt_groups)} counts, expected one for each of the {images} images")


def check_gains(name: str, gains: Mapping[str, float]) -> None:
    """A number for each of class, bbox and giou.

    Raises:
        KeyError: one of them is missing.
        ValueError: one of them is not a finite number.
    """
    for term in GAINS:
        if term not in gains:
            raise KeyError(f"{name} has the keys {sorted(gains)}, expected {list(GAINS)}: {term!r} is missing")
        if not np.isfinite(gains[term]):
            raise ValueError(f"{name}[{term!r}] is {gains[term]}, expected a finite number")


def entry(mapping: Mapping[str, Any], name: str, key: str) -> Any:
    """`mapping[key]`, or a KeyError that says which mapping lacks it and what it has."""
    if key not in mapping:
        raise KeyError(f"{name} has the keys {sorted(mapping)}: {key!r} is missing")
    return mapping[key]


def check_matching(match_indices: Sequence[Any], images: int, queries: int, targets: int) -> None:
    """For each image two equally long arrays of indices that exist.

    Raises:
        ValueError: the number of images or pairs does not fit, or an index is out of range.
    """
    if len(match_indices) != images:
        raise ValueError(f"match_indices has {len(match_indices)} entries, expected one for each of the {images} images")
    for image, pair in enumerate(match_indices):
        if len(pair) != 2 or len(pair[0]) != len(pair[1]):
            raise ValueError(f"match_indices[{image}] is {pair!r}, expected as many queries as targets")
        for name, indices, size in (("queries", pair[0], queries), ("targets", pair[1], targets)):
            if len(indices) and not (0 <= np.min(indices) and np.max(indices) < size):
                raise ValueError(f"match_indices[{image}] has {name} {list(indices)}, expected 0 to {size - 1}")
