"""Checks of arguments: each says which argument is wrong, what it is, and what was expected.

Nothing here waits for a CUDA device, except `check_values` on one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

GAINS = ("class", "bbox", "giou")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# The targets come as arguments of some functions and as entries of a batch in others.
LABELS = "gt_cls (batch['cls'])"
BOXES = "gt_bboxes (batch['bboxes'])"


def check_floats(name: str, tensor: object) -> Tensor:
    """A tensor of a dtype that the loss computes with.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a tensor")
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected float16, bfloat16, float32 or float64")
    return tensor


def check_number(name: str, number: object, least: float = -math.inf) -> None:
    """A finite real number that is not too small.

    Raises:
        TypeError: it is no real number.
        ValueError: it is not finite, or less than `least`.
    """
    if not isinstance(number, Real):
        raise TypeError(f"{name} is {number!r}, expected a number")
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}, expected a finite number")
    if number < least:
        raise ValueError(f"{name} is {number}, expected at least {least:g}")


def check_count(name: str, count: object, least: int = 0) -> None:
    """An integer that is not too small.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than `least`.
    """
    if isinstance(count, bool) or not isinstance(count, (Integral, torch.SymInt)):
        raise TypeError(f"{name} is {count!r}, expected an integer")
    if count < least:
        raise ValueError(f"{name} is {count}, expected at least {least}")


def check_predictions(
    pred_bboxes: object,
    pred_scores: object,
    axes: Sequence[str],
    classes: int | None = None,
    names: tuple[str, str] = ("pred_bboxes", "pred_scores"),
) -> None:
    """Boxes and logits of the same layers, images and queries, none of them zero in number, on one device.

    Args:
        pred_bboxes: must have shape (*axes, 4).
        pred_scores: must have shape (*axes, classes).
        axes: names of the leading axes.
        classes: how many classes there must be; None for any number of them.
        names: what the two are called where they come from.

    Raises:
        TypeError: one of them is no tensor of floats.
        ValueError: a shape or a device does not fit.
    """
    tensors = [check_floats(name, tensor) for name, tensor in zip(names, (pred_bboxes, pred_scores), strict=True)]
    boxes, scores = (tuple(tensor.shape) for tensor in tensors)
    if len(boxes) != len(axes) + 1 or boxes[-1] != 4:
        raise ValueError(f"{names[0]} has shape {boxes}, expected ({', '.join(axes)}, 4)")
    if len(scores) != len(boxes) or scores[:-1] != boxes[:-1]:
        raise ValueError(
            f"{names[1]} has shape {scores}, expected {boxes[:-1]} as in {names[0]}, and an axis of classes"
        )
    if 0 in scores:
        empty = [*axes, "classes"][scores.index(0)]
        raise ValueError(f"{names[1]} has shape {scores}: expected at least one of the {empty}")
    if classes is not None and scores[-1] != classes:
        raise ValueError(f"{names[1]} has shape {scores}, expected nc = {classes} classes on its last axis")
    check_device(names[1], tensors[1], names[0], tensors[0].device)


def check_device(name: str, tensor: Tensor, other: str, device: torch.device) -> None:
    """Two tensors must lie on one device.

    Raises:
        ValueError: they do not.
    """
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, expected {device}, where {other} is")


def check_targets(
    gt_bboxes: object, gt_cls: object, gt_groups: object, images: int | None, device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Boxes with a class each, divided among the images; returns boxes, classes and the counts.

    Args:
        gt_bboxes: must have shape (targets, 4).
        gt_cls: must have shape (targets,), of any type of integer.
        gt_groups: number of targets of each image.
        images: number of images; None for as many as `gt_groups` has.
        device: where the predictions are.

    Raises:
        TypeError: something is no tensor of numbers, or labels or counts are not integers.
        ValueError: a shape, a count or a device does not fit.
    """
    counts = check_counts(gt_groups, images)
    total = sum(counts)
    boxes, labels = check_floats(BOXES, gt_bboxes), check_labels(gt_cls)
    for name, tensor, shape in ((LABELS, labels, (total,)), (BOXES, boxes, (total, 4))):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} as gt_groups sums")
        check_device(name, tensor, "pred_bboxes", device)
    return boxes, labels, counts


def check_labels(gt_cls: object) -> Tensor:
    """A tensor of integers; without any target its dtype says nothing.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(gt_cls, Tensor):
        raise TypeError(f"{LABELS} is a {type(gt_cls).__name__}, expected a tensor")
    if gt_cls.numel() and (gt_cls.is_floating_point() or gt_cls.is_complex() or gt_cls.dtype == torch.bool):
        raise TypeError(f"{LABELS} has dtype {gt_cls.dtype}, expected integers")
    return gt_cls


def check_counts(gt_groups: object, images: int | None) -> tuple[int, ...]:
    """One count of targets for each image, on the host.

    Raises:
        TypeError: it is no sequence, or a count is not an integer.
        ValueError: a count is negative, or there are more or fewer counts than images.
    """
    if isinstance(gt_groups, (str, bytes, Tensor)) or not isinstance(gt_groups, Sequence):
        raise TypeError(f"gt_groups is a {type(gt_groups).__name__}, expected a list with an integer for each image")
    for image, count in enumerate(gt_groups):
        check_count(f"gt_groups[{image}]", count)
    if images is not None and len(gt_groups) != images:
        raise ValueError(f"gt_groups has {len(gt_groups)} counts, expected one for each of {images} images")
    return tuple(gt_groups)


def check_values(gt_bboxes: Tensor, gt_cls: Tensor, classes: int) -> None:
    """Finite boxes, and classes that exist. On CUDA this waits for the device.

    Raises:
        ValueError: one of them is not; it is named with its value.
    """
    if not gt_cls.numel():
        return
    smallest, largest = (int(each) for each in gt_cls.aminmax())
    if smallest < 0 or largest >= classes:
        row = int(((gt_cls < 0) | (gt_cls >= classes)).int().argmax())
        raise ValueError(f"{LABELS} has {int(gt_cls[row])} at [{row}], expected a class from 0 to {classes - 1}")
    finite = gt_bboxes.isfinite().all(-1)
    if not bool(finite.all()):
        row = int(finite.int().argmin())
        raise ValueError(f"{BOXES} has {gt_bboxes[row].tolist()} at [{row}], expected finite numbers")


def check_gains(name: str, gains: Mapping[str, float]) -> None:
    """A number for each of class, bbox and giou.

    Raises:
        KeyError: one of them is missing.
        TypeError: one of them is no number, or they are no mapping.
        ValueError: one of them is not finite.
    """
    for term in GAINS:
        check_number(f"{name}[{term!r}]", entry(gains, name, term))


def entry(mapping: object, name: str, key: str) -> Any:  # noqa: ANN401  # a batch holds anything
    """`mapping[key]`, or an error that says which mapping lacks it and what it has.

    Raises:
        KeyError: the key is missing.
        TypeError: the mapping is none.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{name} is a {type(mapping).__name__}, expected a mapping with the key {key!r}")
    if key not in mapping:
        raise KeyError(f"{name} has the keys {sorted(map(str, mapping))}: {key!r} is missing")
    return mapping[key]


def check_integers(name: str, values: object) -> Tensor:
    """A row of integers, as int64.

    Raises:
        TypeError: they are no integers.
        ValueError: they are no row.
    """
    row = torch.as_tensor(values)
    if row.dim() != 1:
        raise ValueError(f"{name} has shape {tuple(row.shape)}, expected one axis")
    if row.numel() and (row.is_floating_point() or row.is_complex() or row.dtype == torch.bool):
        raise TypeError(f"{name} has dtype {row.dtype}, expected integers")
    return row.long()
