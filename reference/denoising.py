"""Contrastive denoising queries: targets with noise on them, for the decoder to repair.

Every group holds, for each image, one slightly moved copy of each target (a positive, to be repaired) and one
strongly moved copy (a negative, to be called background). M is the largest number of targets that any image
contributes, so a group has 2 M slots: M positive ones, then M negative ones. Slots that an image does not fill
are padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from detr_conformance.reference.validation import check_array, check_count, check_number, check_targets, entry

LOGIT_EPS = 1e-6
"""Boxes are clipped this far inside (0, 1) before the inverse sigmoid."""


@dataclass(frozen=True)
class Layout:
    """How the denoising queries of a batch are arranged.

    Attributes:
        chosen: for each image the targets it contributes, counted through the whole batch, ascending.
        width: M, the largest number of targets that an image contributes.
        groups: K, the number of groups.
    """

    chosen: tuple[Int64[np.ndarray, " _targets"], ...]
    width: int
    groups: int

    @property
    def queries(self) -> int:
        """D = 2 M K, the number of denoising queries of each image."""
        return 2 * self.width * self.groups

    def slots(self, image: int, half: int) -> Int64[np.ndarray, " slots"]:
        """An image's filled slots, group after group: positive ones (half 0) or negative ones (half 1)."""
        starts = 2 * self.width * np.arange(self.groups) + half * self.width
        return (starts[:, None] + np.arange(len(self.chosen[image]))).ravel()


def get_cdn_group(
    batch: Mapping[str, Any] | None,
    num_classes: int,
    num_queries: int,
    class_embed: Float[np.ndarray, "classes channels"],
    num_dn: int = 100,
    cls_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    training: bool = False,
    rng: np.random.Generator | None = None,
) -> (
    tuple[
        Float[np.ndarray, "images denoising channels"],
        Float[np.ndarray, "images denoising 4"],
        Bool[np.ndarray, "all all"],
        dict[str, Any],
    ]
    | tuple[None, None, None, None]
):
    """Make the denoising queries of a batch.

    Args:
        batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, the number of targets of
            each image.
        num_classes: number of classes.
        num_queries: number of ordinary queries, which follow the denoising ones.
        class_embed: embedding of each class.
        num_dn: at most how many positives to make for each image; K = num_dn // M.
        cls_noise_ratio: twice the probability that a label is replaced, in [0, 2].
        box_noise_scale: size of the noise on boxes in half box sizes, >= 0.
        training: denoising queries exist in training only.
        rng: where all random numbers come from; a fresh one by default.

    Returns:
        Embedded labels (zeros in padding), boxes as logits (zeros in padding), the attention mask, and `dn_meta`
        with `dn_pos_idx`, `dn_gt_idx`, `dn_num_group` and `dn_num_split` = [denoising, num_queries]. Four times
        None where not `training`, num_dn <= 0, batch is None, or no image has a target.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (positives and negatives); Li et al., DN-DETR,
    arXiv 2203.01305, section 4 (noise, groups, attention mask).
    """
    if not training or batch is None or num_dn <= 0:
        return None, None, None, None
    _check_options(num_classes, num_queries, class_embed, num_dn, cls_noise_ratio, box_noise_scale)
    classes, boxes, gt_groups = (entry(batch, "batch", key) for key in ("cls", "bboxes", "gt_groups"))
    check_targets(boxes, classes, gt_groups, None, num_classes)
    if max(gt_groups, default=0) == 0:
        return None, None, None, None

    rng = np.random.default_rng() if rng is None else rng
    classes, boxes = classes.astype(np.int64), boxes.astype(np.float64)
    layout = arrange(gt_groups, num_dn, rng)
    embedded = np.zeros((len(gt_groups), layout.queries, class_embed.shape[1]))
    logits = np.zeros((len(gt_groups), layout.queries, 4))
    for image, targets in enumerate(layout.chosen):
        for half in (0, 1):
            slots, sources = layout.slots(image, half), np.tile(targets, layout.groups)
            labels = noisy_labels(classes[sources], num_classes, cls_noise_ratio, rng)
            embedded[image, slots] = class_embed[labels]
            logits[image, slots] = noisy_boxes(boxes[sources], box_noise_scale, half, rng)
    return embedded, logits, attention_mask(layout, num_queries), _meta(layout, num_queries)


def _check_options(
    num_classes: int,
    num_queries: int,
    class_embed: np.ndarray,
    num_dn: int,
    cls_noise_ratio: float,
    box_noise_scale: float,
) -> None:
    for name, count in {"num_classes": num_classes, "num_queries": num_queries, "num_dn": num_dn}.items():
        check_count(name, count, least=1)
    check_array("class_embed", class_embed)
    if class_embed.ndim != 2 or len(class_embed) < num_classes:
        raise ValueError(f"class_embed has shape {class_embed.shape}, expected (num_classes = {num_classes}, _)")
    check_number("cls_noise_ratio", cls_noise_ratio)
    if not 0 <= cls_noise_ratio <= 2:
        raise ValueError(f"cls_noise_ratio is {cls_noise_ratio}, expected 0 to 2, twice a probability")
    check_number("box_noise_scale", box_noise_scale)
    if box_noise_scale < 0:
        raise ValueError(f"box_noise_scale is {box_noise_scale}, expected at least 0")


def arrange(gt_groups: Sequence[int], num_dn: int, rng: np.random.Generator) -> Layout:
    """Choose the targets, and how many groups of them fit.

    An image with more than `num_dn` targets contributes a random subset of that size; K = num_dn // M is then 1.
    """
    chosen = []
    for image, count in enumerate(gt_groups):
        contributed = rng.permutation(count)[:num_dn]
        chosen.append(sum(gt_groups[:image]) + np.sort(contributed))
    width = max(len(each) for each in chosen)
    return Layout(tuple(chosen), width, num_dn // width)


def noisy_labels(
    classes: Int64[np.ndarray, " slots"], num_classes: int, cls_noise_ratio: float, rng: np.random.Generator
) -> Int64[np.ndarray, " slots"]:
    """Replace each label, with probability cls_noise_ratio / 2, by a class drawn uniformly from all of them.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (label flipping).
    """
    flipped = rng.random(len(classes)) < cls_noise_ratio / 2
    return np.where(flipped, rng.integers(num_classes, size=len(classes)), classes)


def noisy_boxes(
    boxes: Float[np.ndarray, "slots 4"], box_noise_scale: float, half: int, rng: np.random.Generator
) -> Float[np.ndarray, "slots 4"]:
    """Move every edge of every box, and return the boxes as logits.

        edge + sign u (half the width or height) box_noise_scale

    with u uniform in [0, 1) for positives, in [1, 2) for negatives; clipped to the image. A negative's width or
    height may come out below 0.

    Args:
        boxes: boxes in centre form.
        box_noise_scale: at 0 the boxes come back as they are, not as logits (quirk).
        half: 0 for positives, 1 for negatives.
        rng: source of signs and distances.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (lambda_1 and lambda_2).
    """
    if box_noise_scale == 0:
        return boxes
    half_size = np.tile(boxes[:, 2:] / 2, 2)
    edges = np.tile(boxes[:, :2], 2) + np.repeat([-1.0, 1.0], 2) * half_size
    distance = rng.random(boxes.shape) + half
    sign = rng.choice([-1.0, 1.0], size=boxes.shape)
    moved = np.clip(edges + sign * distance * half_size * box_noise_scale, 0.0, 1.0)
    low, high = moved[:, :2], moved[:, 2:]
    return logit(np.concatenate([(low + high) / 2, high - low], axis=1))


def logit(p: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Inverse of the sigmoid, log(p / (1 - p)), of p clipped to [1e-6, 1 - 1e-6]; range about ±13.8."""
    inside = np.clip(p, LOGIT_EPS, 1.0 - LOGIT_EPS)
    return np.log(inside) - np.log1p(-inside)


def attention_mask(layout: Layout, num_queries: int) -> Bool[np.ndarray, "all all"]:
    """Who must not see whom: [i, j] is True where query i may not attend to query j.

    Ordinary queries do not see denoising ones, which know the answers; a group does not see another group.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (attention mask).
    """
    denoising = layout.queries
    group = np.full(denoising + num_queries, -1)
    group[:denoising] = np.arange(denoising) // (2 * layout.width)
    another_group = group[:, None] != group[None, :]
    towards_denoising = group[None, :] >= 0
    return another_group & towards_denoising


def _meta(layout: Layout, num_queries: int) -> dict[str, Any]:
    """What the loss needs to know of the layout."""
    images = range(len(layout.chosen))
    return {
        "dn_pos_idx": [layout.slots(image, half=0) for image in images],
        "dn_gt_idx": list(layout.chosen),
        "dn_num_group": layout.groups,
        "dn_num_split": [layout.queries, num_queries],
    }
