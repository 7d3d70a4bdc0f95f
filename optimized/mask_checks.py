"""Checks of masks: each says which argument is wrong, what it is, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detr_conformance.optimized.validation import check_device, check_floats, check_number, check_tensor


def check_masks(masks: object, gt_mask: object, pred_scores: Tensor, targets: int) -> tuple[Tensor, Tensor]:
    """Logits of a mask for each query, and a mask for each target, on the device of the predictions.

    Args:
        masks: must have shape (layers, images, queries, height, width).
        gt_mask: must have shape (targets, height, width), with a height and width of their own.
        pred_scores: the logits of the classes, with the same layers, images and queries.
        targets: number of targets.

    Raises:
        TypeError: one of them is no tensor of numbers.
        ValueError: one is given without the other, or a shape or a device does not fit.
    """
    for name, given, other in (("masks", masks, "gt_mask"), ("gt_mask", gt_mask, "masks")):
        if given is None:
            raise ValueError(f"{name} is None, expected masks beside {other}: both or neither")
    logits, of_targets = check_floats("masks", masks), check_tensor("gt_mask", gt_mask)
    if of_targets.is_complex():
        raise TypeError(f"gt_mask has dtype {of_targets.dtype}, expected booleans, integers or floats")
    leading, shape = tuple(pred_scores.shape[:3]), tuple(logits.shape)
    if len(shape) != 5 or shape[:3] != leading or 0 in shape:
        raise ValueError(f"masks has shape {shape}, expected {leading} as in pred_scores, a height and a width, none 0")
    shape = tuple(of_targets.shape)
    if len(shape) != 3 or shape[0] != targets or 0 in shape[1:]:
        raise ValueError(f"gt_mask has shape {shape}, expected one mask for each of {targets} targets, at least 1 x 1")
    for name, tensor in (("masks", logits), ("gt_mask", of_targets)):
        check_device(name, tensor, "pred_scores", pred_scores.device)
    return logits, of_targets


def check_mask_values(gt_mask: Tensor) -> None:
    """Nothing but 0 and 1. On CUDA this waits for the device.

    Raises:
        ValueError: there is another value; it is named with its place.
    """
    if gt_mask.dtype == torch.bool:
        return
    wrong = (gt_mask != 0) & (gt_mask != 1)
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        raise ValueError(f"gt_mask has {gt_mask[tuple(place)].item()} at {place}, expected 0 or 1")


def check_mask_gains(name: str, gains: Mapping[str, float], asked_by: str) -> tuple[float, float]:
    """The gains of mask and dice.

    Raises:
        KeyError: one of them is missing; `asked_by` says what needs it.
        TypeError: one of them is no number.
        ValueError: one of them is not finite, or too large.
    """
    for term in ("mask", "dice"):
        if term not in gains:
            keys = sorted(map(str, gains))
            raise KeyError(f"{name} has the keys {keys}: {term!r} is missing, needed for {asked_by}")
    return check_number(f"{name}['mask']", gains["mask"]), check_number(f"{name}['dice']", gains["dice"])
