"""Matchers in float32 torch that make one mistake of the museum each: family MATCH."""

from __future__ import annotations

import numpy as np
import torch

from ..correct.plain_boxes import corners, iou_and_giou
from ..correct.plain_loss import PlainLoss
from ..correct.plain_matcher import PlainMatcher


class Greedy(PlainMatcher):
    """The cheapest pair first."""

    def solve(self, cost):
        left, pairs = cost.copy(), []
        for _ in range(min(cost.shape)):
            query, target = np.unravel_index(left.argmin(), left.shape)
            pairs.append((query, target))
            left[query, :] = left[:, target] = np.inf
        return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T


class Nearest(PlainMatcher):
    """Every target takes its cheapest query."""

    def solve(self, cost):
        return cost.argmin(axis=0), np.arange(cost.shape[1])


class SortedApart(PlainMatcher):
    """Queries are sorted and targets are, each by themselves."""

    def solve(self, cost):
        queries, targets = super().solve(cost)
        return queries, np.sort(targets)


class FirstTargetsOnly(PlainMatcher):
    """Targets beyond the number of queries take no part."""

    def solve(self, cost):
        return super().solve(cost[:, : len(cost)])


class AlphaSwapped(PlainMatcher):
    """Alpha weighs the negative part."""

    def class_cost(self, of_targets):
        p = of_targets.sigmoid()
        right = (1 - self.alpha) * (1 - p) ** self.gamma * -(p + 1e-8).log()
        return right - self.alpha * p**self.gamma * -(1 - p + 1e-8).log()


class PositivePartOnly(PlainMatcher):
    """The cost lacks its negative part."""

    def class_cost(self, of_targets):
        p = of_targets.sigmoid()
        return self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()


class MinusProbability(PlainMatcher):
    """The cost is minus the probability."""

    def class_cost(self, of_targets):
        return -of_targets.sigmoid()


class Softmax(PlainMatcher):
    """Probabilities come from a softmax."""

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        self.use_fl = False
        return super().cost(boxes, logits, gt_bboxes, gt_cls)


class AlphaHardcoded(PlainMatcher):
    """Alpha is 0.25."""

    def class_cost(self, of_targets):
        self.alpha = 0.25
        return super().class_cost(of_targets)


class MeanDistance(PlainMatcher):
    """The L1 cost is a mean."""

    def l1(self, boxes, gt_bboxes):
        return (boxes[:, None] - gt_bboxes[None]).abs().mean(dim=-1)


class CornerDistance(PlainMatcher):
    """The L1 cost compares corners."""

    def l1(self, boxes, gt_bboxes):
        a, b = (torch.cat(corners(each), dim=-1) for each in (boxes, gt_bboxes))
        return torch.cdist(a, b, p=1)


class GainsSwapped(PlainMatcher):
    """The gains of L1 and GIoU are in each other's place."""

    def __init__(self, cost_gain=None, **options):
        super().__init__(cost_gain, **options)
        self.cost_gain = {**self.cost_gain, "bbox": self.cost_gain["giou"], "giou": self.cost_gain["bbox"]}


class WithoutGIoU(PlainMatcher):
    """The cost lacks GIoU."""

    def __init__(self, cost_gain=None, **options):
        super().__init__(cost_gain, **options)
        self.cost_gain = {**self.cost_gain, "giou": 0}


class IoUCost(PlainMatcher):
    """The cost has IoU for GIoU."""

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        iou, giou = iou_and_giou(boxes[:, None], gt_bboxes[None])
        return super().cost(boxes, logits, gt_bboxes, gt_cls) + self.cost_gain["giou"] * (giou - iou)


class NaNToLargest(PlainMatcher):
    """A cost that is not finite becomes the largest number."""

    def finite(self, cost):
        return torch.where(cost.isfinite(), cost, torch.finfo(cost.dtype).max)


class HalfPrecision(PlainMatcher):
    """Costs have the precision of the predictions."""

    def precise(self, tensor):
        return tensor

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        return super().cost(boxes, logits, gt_bboxes.to(boxes.dtype), gt_cls)

    def finite(self, cost):
        return super().finite(cost).float()


class OneProblem(PlainMatcher):
    """All queries of the batch compete for all of its targets."""

    @torch.no_grad()
    def __call__(self, boxes, logits, gt_bboxes, gt_cls, _gt_groups):
        boxes, logits = self.precise(boxes), self.precise(logits)
        cost = self.finite(self.cost(boxes.flatten(0, 1), logits.flatten(0, 1), gt_bboxes, gt_cls))
        queries, targets = map(torch.as_tensor, self.solve(cost.numpy()))
        owner = queries // boxes.shape[1]
        return [(queries[owner == image] % boxes.shape[1], targets[owner == image]) for image in range(len(boxes))]


def matched_by(matcher):
    """The plain loss with another matcher."""

    class Loss(PlainLoss):
        matcher_class = matcher

    return Loss


class NearestQuery(PlainLoss):
    """Of two targets with one query the last one stays in its label."""

    matcher_class = Nearest

    def class_loss(self, logits, address, scores):
        *query, _ = address
        labels, of_queries = logits.new_zeros(logits.shape[:2]).long(), scores.new_zeros(logits.shape[:2])
        labels[tuple(query)], of_queries[tuple(query)] = address[-1], scores
        return super().class_loss(logits, (*query, labels[tuple(query)]), of_queries[tuple(query)])


class ClassCostGain(PlainLoss):
    """The class gain of the matcher is 1."""

    def __init__(self, **options):
        super().__init__(**options)
        self.matcher = PlainMatcher(cost_gain={"class": 1, "bbox": 5, "giou": 2})


class LossOptions(PlainLoss):
    """The matcher has alpha and gamma of the loss."""

    def __init__(self, **options):
        super().__init__(**options)
        self.matcher = PlainMatcher({"class": 2, "bbox": 5, "giou": 2}, alpha=self.alpha, gamma=self.gamma)


WRONG_MATCHERS = {
    "plausible-greedy-matching": matched_by(Greedy),
    "plausible-nearest-query": NearestQuery,
    "plausible-queries-sorted-apart": matched_by(SortedApart),
    "plausible-first-targets-only": matched_by(FirstTargetsOnly),
    "plausible-cost-alpha-swapped": matched_by(AlphaSwapped),
    "plausible-cost-without-negative-part": matched_by(PositivePartOnly),
    "plausible-cost-minus-sigmoid": matched_by(MinusProbability),
    "hf-deformable-seg-softmax-matcher": matched_by(Softmax),
    "rfdetr-matcher-alpha-hardcoded": matched_by(AlphaHardcoded),
    "plausible-mean-distance-cost": matched_by(MeanDistance),
    "plausible-corner-distance-cost": matched_by(CornerDistance),
    "plausible-cost-gains-swapped": matched_by(GainsSwapped),
    "plausible-cost-without-giou": matched_by(WithoutGIoU),
    "plausible-iou-cost": matched_by(IoUCost),
    "hf-nan-cost-to-largest": matched_by(NaNToLargest),
    "ul-matcher-half-precision": matched_by(HalfPrecision),
    "plausible-one-problem-for-the-batch": matched_by(OneProblem),
    "hf-deformable-class-cost-gain": ClassCostGain,
    "plausible-loss-options-in-matcher": LossOptions,
}
