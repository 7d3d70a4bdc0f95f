"""Checks of the denoising generator's arguments.

What can only be read from the device, classes and coordinates, is checked on the CPU alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.targets import Targets
from detr_conformance.optimized.validation import (
    BOXES,
    LABELS,
    check_boxes,
    check_count,
    check_counts,
    check_device,
    check_floats,
    check_generator,
    check_generator_device,
    check_integer,
    check_labels,
    check_number,
    check_values,
    entry,
)

MOST_QUERIES = 1 << 18
"""Ordinary and denoising ones together. The attention mask has an entry for each pair of them: 64 GiB."""


def is_none_wanted(num_dn: object, name: str = "num_dn") -> bool:
    """Whether there shall be no denoising queries.

    Raises:
        TypeError: `num_dn` is no integer.
    """
    return check_integer(name, num_dn) <= 0


def check_options(num_classes: object, num_queries: object, num_dn: object, name: str = "num_dn") -> None:
    """Counts of at least one.

    Raises:
        TypeError: a count is no integer.
        ValueError: one of them is less.
    """
    for called, count in (("num_classes", num_classes), ("num_queries", num_queries), (name, num_dn)):
        check_count(called, count, least=1)


def check_noise(cls_noise_ratio: object, box_noise_scale: object, name: str = "cls_noise_ratio") -> tuple[float, float]:
    """A probability doubled, and a scale.

    Raises:
        TypeError: one of them is no number.
        ValueError: one of them is out of range.
    """
    ratio = check_number(name, cls_noise_ratio)
    if not 0.0 <= ratio <= 2.0:
        raise ValueError(f"{name} is {cls_noise_ratio}, expected 0 to 2, twice a probability")
    return ratio, check_number("box_noise_scale", box_noise_scale, least=0.0)


def check_size(most_targets: int, num_dn: int, num_queries: int, name: str = "num_dn") -> None:
    """Not more queries than an attention mask can be made for.

    Raises:
        ValueError: there are more.
    """
    width = min(most_targets, num_dn)
    denoising = 2 * width * (num_dn // width)
    if denoising + num_queries > MOST_QUERIES:
        raise ValueError(
            f"{name} is {num_dn} and num_queries is {num_queries}, which makes {denoising + num_queries} queries: "
            f"expected at most {MOST_QUERIES}"
        )


def check_embedding(class_embed: object, num_classes: int, generator: torch.Generator | None) -> None:
    """A row of channels for each class, and random numbers from the same device.

    Raises:
        TypeError: `class_embed` is no tensor of floats, or `generator` is no generator.
        ValueError: there are too few rows, or the two are on different devices.
    """
    embedding = check_floats("class_embed", class_embed)
    shape = tuple(embedding.shape)
    if len(shape) != 2 or shape[0] < num_classes:
        raise ValueError(f"class_embed has shape {shape}, expected (num_classes = {num_classes}, channels)")
    check_generator(generator)
    check_generator_device(generator, "class_embed", embedding.device)


def targets_of(batch: object, num_classes: int, device: torch.device) -> Targets:
    """The targets of a batch, with classes that exist: on other devices than the CPU they are clamped, not checked.

    Raises:
        KeyError: an entry is missing.
        TypeError: an entry has the wrong type.
        ValueError: a shape, a count, a class or a device does not fit, or a box is not finite.
    """
    gt_cls, gt_bboxes, gt_groups = (entry(batch, "batch", key) for key in ("cls", "bboxes", "gt_groups"))
    counts = tuple(int(count) for count in check_counts(gt_groups, None))
    if not counts:
        raise ValueError("gt_groups is empty, expected a count for each of at least one image")
    labels, boxes = check_labels(gt_cls), check_boxes(gt_bboxes)
    _check_form(LABELS, labels, (sum(counts),), device)
    _check_form(BOXES, boxes, (sum(counts), 4), device)
    labels = labels.long()
    if device.type == "cpu":
        check_values(boxes, labels, num_classes)
    else:
        labels = labels.clamp(0, num_classes - 1)  # an index out of range would be an illegal access to memory
    return Targets(boxes.to(arithmetic_dtype(boxes)), labels, counts)


def _check_form(name: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} as gt_groups sums")
    check_device(name, tensor, "class_embed", device)
