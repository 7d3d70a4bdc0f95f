"""Checks of arguments: each says which argument is wrong, what it is, and what was expected.

Nothing here waits for a CUDA device, except `check_values` on one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

GAINS = ("class", "bbox", "giou")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

LARGEST = 1e18
"""Of the options: the product of two still fits float32."""

# The targets come as arguments of some functions and as entries of a batch in others.
LABELS = "gt_cls (batch['cls'])"
BOXES = "gt_bboxes (batch['bboxes'])"


def check_floats(name: str, tensor: object) -> Tensor:
    """A tensor of a dtype that the loss computes with.

    Raises:
        TypeError: it is something else.
    """
    floats = check_tensor(name, tensor)
    if floats.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {floats.dtype}, expected float16, bfloat16, float32 or float64")
    return floats


def check_tensor(name: str, tensor: object) -> Tensor:
    """A tensor that is not sparse.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a tensor")
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} has layout {tensor.layout}, expected torch.strided, not nested")
    return tensor


def check_real(name: str, tensor: object) -> Tensor:
    """A tensor of floats that the loss computes with, or of integers.

    Raises:
        TypeError: it is something else.
    """
    numbers = check_tensor(name, tensor)
    integers = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    return numbers if integers else check_floats(name, numbers)


def check_integer_dtype(name: str, tensor: Tensor) -> None:
    """Integers; of a tensor without any entry the dtype says nothing.

    Raises:
        TypeError: they are something else.
    """
    if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected integers")


def check_number(name: str, number: object, least: float = -math.inf) -> float:
    """A finite real number, neither too small nor too large for float32, as Python's own.

    Args:
        name: what it is called.
        number: may also be a tensor of one number, which is read from its device.
        least: what it must not be less than.

    Raises:
        TypeError: it is no real number.
        ValueError: it is not finite, less than `least`, or beyond `LARGEST`.
    """
    number = _number_in(number)
    if not isinstance(number, Real):
        raise TypeError(f"{name} is {number!r}, expected a number")
    try:
        value = float(number)
    except OverflowError:  # an integer or a fraction that float64 cannot hold
        value = -math.inf if number < 0 else math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number")
    if value < least:
        raise ValueError(f"{name} is {number}, expected at least {least:g}")
    if abs(value) > LARGEST:
        raise ValueError(f"{name} is {value:g}, expected at most {LARGEST:g} in magnitude")
    return value


def check_count(name: str, count: object, least: int = 0) -> int:
    """An integer that is not too small, as Python's own.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than `least`.
    """
    integer = check_integer(name, count)
    if integer < least:
        raise ValueError(f"{name} is {integer}, expected at least {least}")
    return integer


def check_integer(name: str, number: object) -> int:
    """An integer, as Python's own; it may also be a tensor of no axis, which is read from its device.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(number, Tensor) or not number.dim():
        number = _number_in(number)
    if isinstance(number, bool) or not isinstance(number, (Integral, torch.SymInt)):
        raise TypeError(f"{name} is {number!r}, expected an integer")
    # NumPy's would overflow where they are added up. torch.compile's stand for Python's.
    return number if isinstance(number, torch.SymInt) else int(number)  # type: ignore[return-value]


def check_predictions(
    pred_bboxes: object,
    pred_scores: object,
    axes: Sequence[str],
    classes: int | None = None,
    names: tuple[str, str] = ("pred_bboxes", "pred_scores"),
    count: str = "nc",
) -> None:
    """Boxes and logits of the same layers, images and queries, none of them zero in number, on one device.

    Args:
        pred_bboxes: must have shape (*axes, 4).
        pred_scores: must have shape (*axes, classes).
        axes: names of the leading axes.
        classes: how many classes there must be; None for any number of them.
        names: what the two are called where they come from.
        count: what the number of classes is called there.

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
        raise ValueError(f"{names[1]} has shape {scores}, expected {count} = {classes} classes on its last axis")
    check_device(names[1], tensors[1], names[0], tensors[0].device)


def check_device(name: str, tensor: Tensor, other: str, device: torch.device) -> None:
    """Two tensors must lie on one device.

    Raises:
        ValueError: they do not.
    """
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, expected {device}, where {other} is")


def check_generator(generator: object) -> None:
    """A generator of random numbers, or None for torch's own.

    Raises:
        TypeError: it is something else.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is a {type(generator).__name__}, expected a torch.Generator or None")


def check_generator_device(generator: torch.Generator | None, other: str, device: torch.device) -> None:
    """A generator, if there is any, on one device with something else.

    Raises:
        ValueError: it is on another.
    """
    if generator is None:
        return
    given = generator.device  # torch.Generator("cuda") is on the current device without saying which
    if given.type != device.type or given.index not in (None, device.index):
        raise ValueError(f"generator is on {given}, expected {device}, where {other} is")


def check_targets(
    gt_bboxes: object, gt_cls: object, gt_groups: object, images: int | None, device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Boxes with a class each, divided among the images; returns boxes, classes and the counts.

    Args:
        gt_bboxes: must have shape (targets, 4), of floats or integers; without any target also (0,).
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
    boxes, labels = check_boxes(gt_bboxes), check_labels(gt_cls)
    for name, tensor, shape in ((LABELS, labels, (total,)), (BOXES, boxes, (total, 4))):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} as gt_groups sums")
        check_device(name, tensor, "pred_bboxes", device)
    return boxes, labels, counts


def check_boxes(gt_bboxes: object, name: str = BOXES) -> Tensor:
    """A tensor of floats or integers; of shape (0,) it is one of no boxes.

    Raises:
        TypeError: it is something else.
    """
    boxes = check_real(name, gt_bboxes)
    return boxes.view(0, 4) if boxes.shape == (0,) else boxes


def check_labels(gt_cls: object, name: str = LABELS) -> Tensor:
    """A tensor of integers; without any target its dtype says nothing.

    Raises:
        TypeError: it is something else.
    """
    labels = check_tensor(name, gt_cls)
    check_integer_dtype(name, labels)
    return labels


def check_counts(gt_groups: object, images: int | None) -> tuple[int, ...]:
    """One count of targets for each image, on the host.

    Raises:
        TypeError: it is no sequence, or a count is not an integer.
        ValueError: a count is negative, or there are more or fewer counts than images.
    """
    if isinstance(gt_groups, (str, bytes, Tensor)) or not isinstance(gt_groups, Sequence):
        raise TypeError(f"gt_groups is a {type(gt_groups).__name__}, expected a list with an integer for each image")
    counts = tuple(check_count(f"gt_groups[{image}]", count) for image, count in enumerate(gt_groups))
    if images is not None and len(counts) != images:
        raise ValueError(f"gt_groups has {len(counts)} counts, expected one for each of {images} images")
    return counts


def check_values(gt_bboxes: Tensor, gt_cls: Tensor, classes: int, names: tuple[str, str] = (BOXES, LABELS)) -> None:
    """Finite boxes without a negative side, and classes that exist. On CUDA this waits for the device.

    Raises:
        ValueError: one of them is not; it is named with its value.
    """
    if not gt_cls.numel():
        return
    labels = gt_cls.long()  # torch cannot compare all unsigned integers; a label beyond int64 turns negative
    smallest, largest = (int(each) for each in labels.aminmax())
    if smallest < 0 or largest >= classes:
        row = int(((labels < 0) | (labels >= classes)).int().argmax())
        raise ValueError(f"{names[1]} has {gt_cls[row].item()} at [{row}], expected a class from 0 to {classes - 1}")
    fits = gt_bboxes.isfinite().all(-1) & (gt_bboxes[:, 2:] >= 0).all(-1)
    if not bool(fits.all()):
        row = int(fits.int().argmin())
        expected = "finite numbers, and a width and height of at least 0"
        raise ValueError(f"{names[0]} has {gt_bboxes[row].tolist()} at [{row}], expected {expected}")


def check_gains(name: str, gains: Mapping[str, Any], tensors: bool = False) -> dict[str, Any]:
    """A number for each of class, bbox and giou; returns them, and whatever else there is, in a dictionary of its own.

    Args:
        name: what they are called.
        gains: by term.
        tensors: a number may also come as a tensor with one entry, which is not looked at: it may lie on a device.

    Raises:
        KeyError: one of them is missing.
        TypeError: one of them is no number, or they are no mapping.
        ValueError: one of them is not finite, or too large.
    """
    found = {term: entry(gains, name, term) for term in GAINS}
    numbers = {term: gain for term, gain in found.items() if not (tensors and is_one_number(gain))}
    return dict(gains) | {term: check_number(f"{name}[{term!r}]", gain) for term, gain in numbers.items()}


def is_one_number(number: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor of one real number."""
    return isinstance(number, Tensor) and number.numel() == 1 and not number.is_complex() and number.dtype != torch.bool


def _number_in(number: object) -> object:
    """The number that a tensor of one number holds; anything else as it is."""
    return number.item() if is_one_number(number) and not number.is_meta else number


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
    row = check_tensor(name, values if isinstance(values, Tensor) else _tensor_of(name, values))
    if row.dim() != 1:
        raise ValueError(f"{name} has shape {tuple(row.shape)}, expected one axis")
    check_integer_dtype(name, row)
    return row.long()


def _tensor_of(name: str, values: object) -> Tensor:
    """A copy: torch refuses NumPy's reversed views and foreign byte orders, and warns of arrays that are read-only."""
    if isinstance(values, np.ndarray):
        values = values.astype(values.dtype.newbyteorder("="))
    try:
        return torch.tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is a {type(values).__name__}, expected a row of integers: {error}") from error


def check_rows(name: str, rows: object, expected: str = "an entry for each image") -> Sequence[Any]:
    """Something for each image, in order, or what else is expected.

    Raises:
        TypeError: it is no sequence.
    """
    if isinstance(rows, (Tensor, np.ndarray)) and rows.ndim:
        return list(rows)
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Sequence):
        raise TypeError(f"{name} is a {type(rows).__name__}, expected a list with {expected}")
    return rows
