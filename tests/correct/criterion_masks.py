"""DETR's two losses of masks, as its paper and its repository write them."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from .criteria import SetCriterion, places


class SegmentationCriterion(SetCriterion):
    """DETR, arXiv 2005.12872, section 4.4: the main layer's matched masks are held against those of their targets."""

    gains = {"mask": 1.0, "dice": 1.0}  # noqa: RUF012  # read only

    def add(self, losses, suffix, layer, targets, pairs, numbers):
        super().add(losses, suffix, layer, targets, pairs, numbers)
        if not suffix and "masks" in layer:
            gains = {**self.gains, **self.config.loss_gain}
            for term, loss in self.loss_masks(layer, targets, pairs[1], numbers[1]).items():
                losses[self.key(term, suffix)] = gains[term] * loss

    def loss_masks(self, layer, targets, indices, number):
        """Predictions in the size of the batch; both sums over pairs."""
        padded = pad_to_largest([each["masks"] for each in targets])
        wanted = torch.cat([each[own] for each, (_, own) in zip(padded, indices, strict=True)])
        masks = layer["masks"][places(indices)]
        if not len(masks):
            return dict.fromkeys(("mask", "dice"), layer["masks"].sum() * 0.0)
        masks = interpolate(masks[:, None], size=wanted.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        masks, wanted = masks.flatten(1), wanted.flatten(1).to(masks)
        return {
            "mask": sigmoid_focal_loss(masks, wanted).mean(1).sum() / number,
            "dice": dice_loss(masks, wanted).sum() / number,
        }


def pad_to_largest(masks):
    """Masks of images of several sizes, each in the upper left corner of one that all of them fit into."""
    height, width = (max(each.shape[axis] for each in masks) for axis in (1, 2))
    padded = [each.new_zeros(len(each), height, width) for each in masks]
    for each, own in zip(padded, masks, strict=True):
        each[:, : own.shape[1], : own.shape[2]] = own
    return padded


def sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    probability = logits.sigmoid()
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    truth = probability * targets + (1 - probability) * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * (1 - truth) ** gamma * entropy


def dice_loss(logits, targets):
    probability = logits.sigmoid()
    overlap = 2 * (probability * targets).sum(1)
    return 1 - (overlap + 1) / (probability.sum(1) + targets.sum(1) + 1)
