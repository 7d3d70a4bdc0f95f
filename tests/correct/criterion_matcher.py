"""The Hungarian matcher as DETR's repository writes it: one cost matrix for the batch, split by image."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import logsigmoid

from .criterion_boxes import pairwise_overlap, to_corners


class HungarianMatcher:
    """Costs are the class cost, the L1 distance and minus the GIoU, each times its gain.

    Args:
        class_cost: of the logits of one layer, for every class.
        gain: of class, bbox and giou.
        guard: what areas go through before anything is divided by them.
        groups: into how many groups, each matched with all targets, the queries fall.
    """

    def __init__(self, class_cost, gain, guard, groups=1):
        self.class_cost, self.gain, self.guard, self.groups = class_cost, gain, guard, groups

    @torch.no_grad()
    def __call__(self, layer, targets):
        """For each image queries and its own targets."""
        cost = self.cost(layer, targets).split([len(each["labels"]) for each in targets], dim=-1)
        return [self.of_image(own[image]) for image, own in enumerate(cost)]

    def of_image(self, cost):
        size, pairs = len(cost) // self.groups, []
        for group, own in enumerate(cost.split(size)):
            queries, targets = linear_sum_assignment(own)
            pairs.append((torch.as_tensor(queries) + group * size, torch.as_tensor(targets)))
        return tuple(torch.cat(side) for side in zip(*pairs, strict=True))

    def cost(self, layer, targets):
        """Of shape (images, queries, all targets)."""
        logits, boxes = layer["logits"].flatten(0, 1), layer["boxes"].flatten(0, 1)
        labels, wanted = (torch.cat([each[name] for each in targets]) for name in ("labels", "boxes"))
        terms = {
            "class": self.class_cost(logits)[:, labels],
            "bbox": torch.cdist(boxes, wanted, p=1),
            "giou": -self.overlap(boxes, targets),
        }
        cost = sum(self.gain[name] * term for name, term in terms.items())
        return cost.unflatten(0, layer["logits"].shape[:2])

    def overlap(self, boxes, targets):
        wanted = torch.cat([each["boxes"] for each in targets])
        return pairwise_overlap(to_corners(boxes), to_corners(wanted), self.guard)[1]


class PixelMatcher(HungarianMatcher):
    """GIoU is of corners in pixels; targets bring theirs, and the size of their image."""

    def overlap(self, boxes, targets):
        corners = torch.cat([each["corners"] for each in targets])
        return pairwise_overlap(to_corners(boxes * targets[0]["size"]), corners, self.guard)[1]


def softmax_cost(logits):
    return -logits.softmax(dim=-1)


def focal_cost(alpha=0.25, gamma=2.0, eps=1e-8):
    """The class cost of Deformable DETR, arXiv 2010.04159."""

    def of_logits(logits):
        p = logits.sigmoid()
        negative = (1 - alpha) * p**gamma * -(1 - p + eps).log()
        return alpha * (1 - p) ** gamma * -(p + eps).log() - negative

    return of_logits


def exact_focal_cost(alpha=0.25):
    """With gamma 2, and logarithms that are always finite."""

    def of_logits(logits):
        p = logits.sigmoid()
        return alpha * (1 - p) ** 2 * -logsigmoid(logits) - (1 - alpha) * p**2 * (logits - logsigmoid(logits))

    return of_logits
