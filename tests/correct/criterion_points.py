"""Mask DINO's losses of masks at points, and its matcher, by the sampling of PyTorch."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample

from .criteria import DeformableCriterion, joined, places
from .criterion_masks import dice_loss
from .criterion_matcher import HungarianMatcher, focal_cost

MASK_RECIPE = {"class": 4.0, "bbox": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0}


class PointCriterion(DeformableCriterion):
    """Mask DINO, arXiv 2206.02777: in training the points are drawn, here they come with the targets."""

    def build_matcher(self):
        return PointMatcher(focal_cost(), MASK_RECIPE, self.guard)

    def add(self, losses, suffix, layer, targets, pairs, numbers):
        super().add(losses, suffix, layer, targets, pairs, numbers)
        if "masks" in layer and (suffix in self.main or self.config.aux_loss):
            for term, loss in self.loss_masks(layer, targets, pairs[1], numbers[1]).items():
                losses[self.key(term, suffix)] = self.config.loss_gain[term] * loss

    def loss_masks(self, layer, targets, indices, number):
        points, masks = joined(targets, "loss_points", indices), layer["masks"][places(indices)]
        if not len(masks):
            return dict.fromkeys(("mask", "dice"), layer["masks"].sum() * 0.0)
        with torch.no_grad():
            wanted = at_points(joined(targets, "masks", indices).to(masks), points)
        masks = at_points(masks, points)
        entropy = binary_cross_entropy_with_logits(masks, wanted, reduction="none")
        return {"mask": entropy.mean(1).sum() / number, "dice": dice_loss(masks, wanted).sum() / number}


class PointMatcher(HungarianMatcher):
    """With the costs of masks, where there are masks: an image's points are those of all its queries and targets."""

    def cost(self, layer, targets):
        cost = super().cost(layer, targets)
        first = 0
        for image, each in enumerate(targets if "masks" in layer else ()):
            own = slice(first, first + len(each["labels"]))
            if own.stop > first:
                cost[image, :, own] += self.cost_of_masks(layer["masks"][image], each["masks"], each["cost_points"])
            first = own.stop
        return cost

    def cost_of_masks(self, masks, wanted, points):
        x, t = (at_points(each.to(masks), points.expand(len(each), -1, -1)) for each in (masks, wanted))
        on, off = (
            binary_cross_entropy_with_logits(x, torch.full_like(x, label), reduction="none") for label in (1.0, 0.0)
        )
        entropy = (on @ t.T + off @ (1 - t).T) / x.shape[1]
        p = x.sigmoid()
        dice = 1 - (2 * p @ t.T + 1) / (p.sum(1)[:, None] + t.sum(1) + 1)
        return self.gain.get("mask", 0.0) * entropy + self.gain.get("dice", 0.0) * dice


def at_points(masks, points):
    """Each mask at points of its own, which are shares of width and height."""
    grid = 2 * points.to(masks) - 1
    return grid_sample(masks[:, None], grid[:, None], align_corners=False)[:, 0, 0]
