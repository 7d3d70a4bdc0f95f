"""Contrastive denoising queries: every image, group, positive and negative in one batch of tensors.

All counts are known to the host, so nothing is ever read back from the device. Noise is made for each target in each
half of each group, in one tensor without padding, and then copied to its slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from detr_conformance.optimized.denoising_checks import (
    check_embedding,
    check_noise,
    check_options,
    check_size,
    is_none_wanted,
    targets_of,
)
from detr_conformance.optimized.denoising_layout import Layout, attention_mask, choose_targets
from detr_conformance.optimized.denoising_noise import noisy_boxes, noisy_labels

Group = tuple[
    Float[Tensor, "images denoising channels"],
    Float[Tensor, "images denoising 4"],
    Bool[Tensor, "all all"],
    dict[str, Any],
]
Nothing = tuple[None, None, None, None]


def get_cdn_group(
    batch: Mapping[str, Any] | None,
    num_classes: int,
    num_queries: int,
    class_embed: Float[Tensor, "classes channels"],
    num_dn: int = 100,
    cls_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    training: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Group | Nothing:
    """Make the denoising queries of a batch: targets with noise on them, for the decoder to repair.

        M = min(max n_b, num_dn),   K = num_dn // M,   D = 2 M K

    n_b is the number of targets of image b. Each of K groups has M positive slots (slightly moved, to be repaired),
    then M negative ones (strongly moved, to be called background). Target j of an image sits in slot j of both halves
    of every group; slots that nothing fills are padding. An image with more than num_dn targets contributes a random
    subset of them.

    Args:
        batch: `cls` (targets,), integers in [0, num_classes); `bboxes` (targets, 4), centre form in [0, 1];
            `gt_groups`, a list with the number of targets of each image. Tensors on the device of `class_embed`.
        num_classes: number of classes, >= 1.
        num_queries: number of ordinary queries, which follow the denoising ones, >= 1.
        class_embed: embedding of each class, at least num_classes rows.
        num_dn: at most how many positives to make for each image.
        cls_noise_ratio: twice the probability that a label is replaced by any class, in [0, 2].
        box_noise_scale: size of the noise on boxes in half box sizes, >= 0. At 0 boxes come back as they are, and not
            as logits.
        training: denoising queries exist in training only.
        generator: where all random numbers come from, on the device of `class_embed`; by default torch's own.

    Returns:
        Embedded labels (images, D, channels), differentiable by `class_embed` and in its dtype, zero in padding; boxes
        as logits (images, D, 4), float32 or float64 as the targets are, zero in padding; the attention mask
        (D + num_queries)^2, True where a query must not look; and `dn_meta` with `dn_pos_idx` (for each image its
        positive slots, group after group), `dn_gt_idx` (for each image the targets of one group, counted through the
        batch), `dn_num_group` = K, and `dn_num_split` = [D, num_queries]. Four times None where not `training`, where
        num_dn <= 0 or batch is None, and where no image has a target.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value. On CUDA classes and
            coordinates are not looked at: that would wait for the device.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (positives and negatives); Li et al., DN-DETR,
    arXiv 2203.01305, section 4 (noise, groups, attention mask).
    """
    if not training or batch is None or is_none_wanted(num_dn):
        return None, None, None, None
    check_options(num_classes, num_queries, num_dn)
    cls_noise_ratio, box_noise_scale = check_noise(cls_noise_ratio, box_noise_scale)
    check_embedding(class_embed, num_classes, generator)
    targets = targets_of(batch, num_classes, class_embed.device)
    if not any(targets.counts):
        return None, None, None, None

    check_size(max(targets.counts), num_dn, num_queries)
    layout = Layout.of(tuple(min(count, num_dn) for count in targets.counts), num_dn, class_embed.device)
    chosen = choose_targets(targets.counts, layout, generator)
    labels = noisy_labels(targets.classes[chosen], layout.halves, num_classes, cls_noise_ratio, generator)
    boxes = noisy_boxes(targets.boxes.detach()[chosen], layout.halves, box_noise_scale, generator)
    slots = layout.slots().flatten()
    dn_meta = {
        "dn_pos_idx": layout.positive_slots(),
        "dn_gt_idx": list(chosen.split_with_sizes(layout.counts)),
        "dn_num_group": layout.groups,
        "dn_num_split": [layout.queries, num_queries],
    }
    return (
        _embed(labels.flatten(), slots, layout, class_embed),
        fill(boxes.flatten(0, 1), slots, layout, 0),
        attention_mask(layout, num_queries),
        dn_meta,
    )


def _embed(
    labels: Int64[Tensor, " slots"],
    slots: Int64[Tensor, " slots"],
    layout: Layout,
    class_embed: Float[Tensor, "classes channels"],
) -> Float[Tensor, "images denoising channels"]:
    """The embedding of each label in its slot, zeros in padding; differentiable by the embedding.

    Padding has a row of zeros as its class: to place embeddings into zeros would write the largest result twice.
    """
    table = F.pad(class_embed, (0, 0, 0, 1))  # `cat` fails where autocast is for the other half-precision type
    return F.embedding(fill(labels, slots, layout, len(class_embed)), table)


def fill(
    values: Shaped[Tensor, "slots *axes"], slots: Int64[Tensor, " slots"], layout: Layout, padding: float | int
) -> Shaped[Tensor, "images denoising *axes"]:
    """Values in their slots, and `padding` in all others."""
    images, axes = len(layout.counts), values.shape[1:]
    filled = values.new_full((images * layout.queries, *axes), padding).index_copy_(0, slots, values)
    return filled.view(images, layout.queries, *axes)
