"""Checks of arguments that only parts of the loss have, each of which is public on its own.

The loss of a training step does not pass here: it has checked everything before it comes to its parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detr_conformance.optimized.validation import (
    check_device,
    check_floats,
    check_integer_dtype,
    check_real,
    check_rows,
    check_tensor,
)


def check_class_arguments(pred_scores: object, targets: object, gt_scores: object, classes: int) -> None:
    """Logits of one layer, and for each query a class or the number of classes, and a score.

    Raises:
        TypeError: one of them is no tensor of numbers.
        ValueError: a shape or a device does not fit, or on the CPU there is no such class.
    """
    shape = tuple(check_floats("pred_scores", pred_scores).shape)
    if len(shape) != 3 or 0 in shape or shape[-1] != classes:
        raise ValueError(f"pred_scores has shape {shape}, expected (images, queries, nc = {classes}), none of them 0")
    labels, scores = check_tensor("targets", targets), check_floats("gt_scores", gt_scores)
    check_integer_dtype("targets", labels)
    for name, tensor in (("targets", labels), ("gt_scores", scores)):
        _check_shape(name, tensor, shape[:2])
        check_device(name, tensor, "pred_scores", check_floats("pred_scores", pred_scores).device)
    if labels.device.type == "cpu":
        smallest, largest = (int(each) for each in labels.long().aminmax())
        if smallest < 0 or largest > classes:
            raise ValueError(f"targets has classes from {smallest} to {largest}, expected 0 to nc = {classes}")


def check_pairs(pred_bboxes: object, gt_bboxes: object) -> None:
    """As many boxes as targets, on one device.

    Raises:
        TypeError: one of them is no tensor of floats.
        ValueError: a shape or the device does not fit.
    """
    boxes, targets = check_floats("pred_bboxes", pred_bboxes), check_real("gt_bboxes", gt_bboxes)
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"pred_bboxes has shape {tuple(boxes.shape)}, expected (pairs, 4)")
    _check_shape("gt_bboxes", targets, tuple(boxes.shape))
    check_device("gt_bboxes", targets, "pred_bboxes", boxes.device)


def check_boxes_of_images(pred_bboxes: object, gt_bboxes: object) -> tuple[Tensor, list[Tensor]]:
    """The boxes of one layer, and the targets of each image.

    Raises:
        TypeError: one of them is no tensor of floats, or the targets are no sequence.
        ValueError: a shape, a device or the number of images does not fit.
    """
    boxes = check_floats("pred_bboxes", pred_bboxes)
    if boxes.dim() != 3 or boxes.shape[2] != 4:
        raise ValueError(f"pred_bboxes has shape {tuple(boxes.shape)}, expected (images, queries, 4)")
    targets = [check_floats(f"gt_bboxes[{at}]", own) for at, own in enumerate(check_rows("gt_bboxes", gt_bboxes))]
    if len(targets) != len(boxes):
        raise ValueError(f"gt_bboxes has {len(targets)} entries, expected one for each of {len(boxes)} images")
    for image, own in enumerate(targets):
        _check_shape(f"gt_bboxes[{image}]", own, (len(own) if own.dim() else 0, 4))
        check_device(f"gt_bboxes[{image}]", own, "pred_bboxes", boxes.device)
    return boxes, targets


def check_two_boxes(box1: object, box2: object) -> None:
    """Boxes that broadcast against each other, on one device.

    Raises:
        TypeError: one of them is no tensor of floats.
        ValueError: a shape or the device does not fit.
    """
    first, second = check_floats("box1", box1), check_floats("box2", box2)
    for name, boxes in (("box1", first), ("box2", second)):
        if boxes.shape[-1:] != (4,):
            raise ValueError(f"{name} has shape {tuple(boxes.shape)}, expected (..., 4)")
    check_device("box2", second, "box1", first.device)
    try:
        torch.broadcast_shapes(first.shape, second.shape)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        shapes = f"{tuple(first.shape)} and box2 {tuple(second.shape)}"
        raise ValueError(f"box1 has shape {shapes}, expected shapes that broadcast against each other") from error


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
