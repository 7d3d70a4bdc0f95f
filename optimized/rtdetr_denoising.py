"""Denoising queries as RT-DETR's repositories and `transformers` make them.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069; Zhang et al., DINO, arXiv 2203.03605, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from detr_conformance.optimized.denoising import Nothing, fill
from detr_conformance.optimized.denoising_checks import check_noise, check_options, check_size, is_none_wanted
from detr_conformance.optimized.denoising_layout import Layout, attention_mask
from detr_conformance.optimized.denoising_noise import noisy_boxes, noisy_labels
from detr_conformance.optimized.targets_of_images import targets_of_images
from detr_conformance.optimized.validation import check_generator, check_generator_device

LOGIT_EPS = 1e-5
"""Boxes are clipped this far inside (0, 1) before the inverse sigmoid; padding boxes are empty ones."""

Group = tuple[
    Float[Tensor, "images denoising channels"],
    Float[Tensor, "images denoising 4"],
    Shaped[Tensor, "all all"],
    dict[str, Any],
]
"""Embedded labels, boxes as logits, the attention mask in the form of the package, and what tells queries apart."""


class Names(NamedTuple):
    """What a package calls its arguments.

    Attributes:
        targets: the list, and the keys of boxes and classes in its dictionaries.
        number: the number of denoising queries.
    """

    targets: tuple[str, str, str]
    number: str


def contrastive_denoising_group(
    targets: Sequence[Mapping[str, Tensor]],
    names: Names,
    num_classes: int,
    num_queries: int,
    class_embed: nn.Embedding,
    num_denoising: int,
    label_noise_ratio: float,
    box_noise_scale: float,
    generator: torch.Generator | None,
) -> Group | Nothing:
    """Make the denoising queries of a batch; see `optimized.get_cdn_group`, from which these differ in four things.

    Every target is denoised, in max(1, num_denoising // M) groups for M targets in the image with most; padding has the
    last row of the embedding, and an empty box, in logits like all boxes; these are clipped by 1e-5.

    Args:
        targets: for each image classes and boxes, the latter in centre form in [0, 1].
        names: what arguments are called.
        num_classes: number of classes, >= 1.
        num_queries: number of ordinary queries, which follow the denoising ones, >= 1.
        class_embed: has num_classes + 1 rows, the last for padding.
        num_denoising: about how many positives to make for each image.
        label_noise_ratio: twice the probability that a label is replaced by any class, in [0, 2].
        box_noise_scale: size of the noise on boxes in half box sizes, >= 0. At 0 boxes come back as they are.
        generator: where all random numbers come from; by default torch's own.

    Returns:
        Embedded labels, boxes as logits, the attention mask, True where a query must not look, and a dictionary with
        `dn_positive_idx`, `dn_num_group` and `dn_num_split`. Four times None where num_denoising <= 0, and where no
        image has a target.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
    """
    if is_none_wanted(num_denoising, names.number):
        return None, None, None, None
    check_options(num_classes, num_queries, num_denoising, names.number)
    label_noise_ratio, box_noise_scale = check_noise(label_noise_ratio, box_noise_scale, "label_noise_ratio")
    weight = _checked_embedding(class_embed, num_classes, generator)
    found = targets_of_images(targets, names.targets, num_classes, weight.device)
    if not any(found.counts):
        return None, None, None, None

    check_size(max(found.counts), max(num_denoising, *found.counts), num_queries, names.number)
    layout = Layout.of(found.counts, num_denoising, weight.device)
    labels = noisy_labels(found.classes, layout.halves, num_classes, label_noise_ratio, generator)
    boxes = noisy_boxes(found.boxes.detach(), layout.halves, box_noise_scale, generator, inverse_sigmoid)
    slots = layout.slots().flatten()
    meta = {
        "dn_positive_idx": tuple(layout.positive_slots()),
        "dn_num_group": layout.groups,
        "dn_num_split": [layout.queries, num_queries],
    }
    return (
        class_embed(fill(labels.flatten(), slots, layout, num_classes)),
        fill(boxes.flatten(0, 1), slots, layout, math.log(LOGIT_EPS) if box_noise_scale else 0.0),
        attention_mask(layout, num_queries),
        meta,
    )


def inverse_sigmoid(boxes: Float[Tensor, "*axes 4"]) -> Float[Tensor, "*axes 4"]:
    """log(p / (1 - p)) of p in [0, 1], with p and 1 - p at least `LOGIT_EPS` each.

    To clip p at both ends instead would cost 1 - p its digits. A size below 0 is one of 0.
    """
    inside = boxes.clamp(0.0, 1.0)
    return (inside.clamp(min=LOGIT_EPS) / (1 - inside).clamp(min=LOGIT_EPS)).log()


def _checked_embedding(class_embed: object, num_classes: int, generator: torch.Generator | None) -> Tensor:
    """The rows of an embedding with one for padding, and random numbers from the same device.

    Raises:
        TypeError: it is no embedding, or `generator` is no generator.
        ValueError: there are too few rows, or the two are on different devices.
    """
    if not isinstance(class_embed, nn.Embedding):
        raise TypeError(f"class_embed is a {type(class_embed).__name__}, expected torch.nn.Embedding")
    if class_embed.num_embeddings <= num_classes:
        rows = class_embed.num_embeddings
        raise ValueError(f"class_embed has {rows} rows, expected num_classes + 1 = {num_classes + 1}, one for padding")
    check_generator(generator)
    check_generator_device(generator, "class_embed", class_embed.weight.device)
    return class_embed.weight
