"""A matcher as it is taught: a cost for each pair of one image's queries and targets, and SciPy's solver."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

from .plain_boxes import EPS, iou_and_giou


class PlainMatcher:
    """One image at a time; every step is a method that a variation can replace."""

    eps = EPS

    def __init__(self, cost_gain=None, use_fl=True, alpha=0.25, gamma=2.0):
        self.cost_gain = cost_gain or {"class": 1, "bbox": 5, "giou": 2}
        self.use_fl, self.alpha, self.gamma = use_fl, alpha, gamma

    @torch.no_grad()
    def __call__(self, boxes, logits, gt_bboxes, gt_cls, gt_groups):
        """Pairs of every image: queries ascending, targets counted through the batch."""
        boxes, logits = self.precise(boxes), self.precise(logits)
        pairs, first = [], 0
        for image, count in enumerate(gt_groups):
            own = slice(first, first + count)
            cost = self.cost(boxes[image], logits[image], gt_bboxes[own], gt_cls[own])
            queries, targets = self.solve(self.finite(cost).numpy())
            pairs.append((torch.as_tensor(queries).long(), torch.as_tensor(targets).long() + first))
            first += count
        return pairs

    def precise(self, tensor):
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        """Costs of shape (queries, targets)."""
        _, giou = iou_and_giou(boxes[:, None], gt_bboxes[None], self.eps)
        terms = {"class": self.class_cost(logits[:, gt_cls]), "bbox": self.l1(boxes, gt_bboxes), "giou": 1 - giou}
        if not self.use_fl:
            terms["class"] = -logits.softmax(dim=-1)[:, gt_cls]
        return self.weighted(terms)

    def weighted(self, terms):
        return sum(self.cost_gain[name] * term for name, term in terms.items())

    def class_cost(self, of_targets):
        p = of_targets.sigmoid()
        right = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
        wrong = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        return right - wrong

    def l1(self, boxes, gt_bboxes):
        return (boxes[:, None] - gt_bboxes[None]).abs().sum(dim=-1)

    def finite(self, cost):
        return torch.where(cost.isfinite(), cost, torch.zeros_like(cost))

    def solve(self, cost):
        """Queries, ascending, and targets of a cheapest matching."""
        return linear_sum_assignment(cost)
