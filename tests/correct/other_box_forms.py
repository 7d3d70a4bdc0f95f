"""The plain loss with overlap and hull from sizes and the distance of centres: no corner is computed."""

from __future__ import annotations

import torch

from .plain_boxes import EPS
from .plain_loss import PlainLoss
from .plain_matcher import PlainMatcher


def iou_and_giou(a, b, eps=EPS):
    """By half sums: overlap = min(w_a, w_b, (w_a + w_b) / 2 - |x_a - x_b|), and the hull likewise."""
    (a_centre, a_size), (b_centre, b_size) = a.split(2, dim=-1), b.split(2, dim=-1)
    distance, mean = (a_centre - b_centre).abs(), (a_size + b_size) / 2
    overlap = torch.minimum(torch.minimum(a_size, b_size), mean - distance).clamp(min=0)
    hull_size = torch.maximum(torch.maximum(a_size, b_size), mean + distance)
    inter, hull = overlap[..., 0] * overlap[..., 1], hull_size[..., 0] * hull_size[..., 1] + eps
    union = a_size[..., 0] * a_size[..., 1] - inter + b_size[..., 0] * b_size[..., 1] + eps
    return inter / union, inter / union - 1 + union / hull


class MatcherWithoutCorners(PlainMatcher):
    """L1 distances by `torch.cdist`."""

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        class_cost = self.class_cost(logits[:, gt_cls]) if self.use_fl else -logits.softmax(dim=-1)[:, gt_cls]
        _, giou = iou_and_giou(boxes[:, None], gt_bboxes[None], self.eps)
        gain = self.cost_gain
        l1 = torch.cdist(boxes, gt_bboxes.to(boxes.dtype), p=1)
        return gain["giou"] * (1 - giou) + gain["bbox"] * l1 + gain["class"] * class_cost


class WithoutCorners(PlainLoss):
    """IoU and GIoU from sizes and distances, in matcher and loss."""

    matcher_class = MatcherWithoutCorners

    def scores(self, matched, wanted):
        return iou_and_giou(matched, wanted)[0]

    def giou(self, matched, wanted):
        return iou_and_giou(matched, wanted)[1]
