"""Targets that come as a dictionary for each image, as in most DETR repositories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.targets import Targets
from detr_conformance.optimized.validation import (
    check_boxes,
    check_device,
    check_labels,
    check_rows,
    check_values,
    entry,
)


def targets_of_images(
    given: object,
    names: tuple[str, str, str],
    classes: int,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Targets:
    """The targets of all images end to end.

    On CUDA values are not looked at: a class that does not exist counts as the nearest one.

    Args:
        given: a dictionary for each image.
        names: what the list is called, and the keys of boxes and labels in its dictionaries.
        classes: how many there are.
        device: where the targets must be.
        dtype: of the boxes, in the end; None: float64 where an image has it, else float32.

    Raises:
        KeyError, TypeError, ValueError: something does not fit; it is named with its value.
    """
    name, *keys = names
    rows = check_rows(name, given)
    if not rows:
        raise ValueError(f"{name} is empty, expected an entry for each of at least one image")
    own = [_of_image(f"{name}[{image}]", row, keys, device) for image, row in enumerate(rows)]
    dtype = dtype or arithmetic_dtype(*(boxes for boxes, _ in own))
    boxes = torch.cat([boxes.to(dtype) for boxes, _ in own])
    labels = torch.cat([labels.long() for _, labels in own])
    if labels.device.type == "cpu":
        _check_values(own, boxes, labels, classes, names)
    else:
        labels = labels.clamp(0, classes - 1)
    return Targets(boxes, labels, tuple(len(each) for _, each in own))


def targets_of_queries(
    given: object,
    names: tuple[str, str, str],
    pred_bboxes: Float[Tensor, "*axes images queries 4"],
    pred_scores: Float[Tensor, "*axes images queries classes"],
) -> Targets:
    """The targets of the images that these are predictions of, in the dtype of the arithmetic; see above."""
    images, _, classes = pred_scores.shape[-3:]
    rows = check_rows(names[0], given)
    if len(rows) != images:
        raise ValueError(f"{names[0]} has {len(rows)} entries, expected one for each of {images} images")
    return targets_of_images(rows, names, classes, pred_scores.device, arithmetic_dtype(pred_bboxes, pred_scores))


def _of_image(name: str, row: object, keys: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Boxes and labels of one image."""
    named = [f"{name}[{key!r}]" for key in keys]
    boxes, labels = check_boxes(entry(row, name, keys[0]), named[0]), check_labels(entry(row, name, keys[1]), named[1])
    if labels.dim() != 1:
        raise ValueError(f"{named[1]} has shape {tuple(labels.shape)}, expected (targets,)")
    if boxes.shape != (len(labels), 4):
        raise ValueError(f"{named[0]} has shape {tuple(boxes.shape)}, expected ({len(labels)}, 4) as in {named[1]}")
    for of_name, tensor in zip(named, (boxes, labels), strict=True):
        check_device(of_name, tensor, "the model", device)
    return boxes, labels


def _check_values(
    own: Sequence[tuple[Tensor, Tensor]], boxes: Tensor, labels: Tensor, classes: int, names: tuple[str, str, str]
) -> None:
    """Look at all images at once, and for the one that is wrong only where there is one."""
    name, *keys = names
    try:
        check_values(boxes, labels, classes)
    except ValueError:
        for image, each in enumerate(own):
            of_boxes, of_labels = (f"{name}[{image}][{key!r}]" for key in keys)
            check_values(*each, classes, (of_boxes, of_labels))
        raise
