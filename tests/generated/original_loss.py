"""The RT-DETR loss as a porter writes it: images and layers in one tensor, targets counted through the batch.

Mutants are made of this module and of `original_denoising`: it imports nothing of ours, and has many places to slip.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional


def full_precision(tensor):
    """Half precision becomes single; double stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def iou_and_giou(boxes, others, eps=1e-7):
    """Both for broadcast pairs of boxes in centre form."""
    x1, y1, w1, h1 = boxes.unbind(-1)
    x2, y2, w2, h2 = others.unbind(-1)
    left1, right1, top1, bottom1 = x1 - w1 / 2, x1 + w1 / 2, y1 - h1 / 2, y1 + h1 / 2
    left2, right2, top2, bottom2 = x2 - w2 / 2, x2 + w2 / 2, y2 - h2 / 2, y2 + h2 / 2
    inter_w = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    inter_h = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    inter = inter_w * inter_h
    union = w1 * h1 + w2 * h2 - inter + eps
    hull_w = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    hull_h = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    hull = hull_w * hull_h + eps
    iou = inter / union
    return iou, iou - (hull - union) / hull


def power(base, exponent):
    """base ** exponent; at 0 its derivative is 0, also for an exponent below 1, where it would be infinite."""
    if exponent == 0:
        return torch.ones_like(base)
    positive = base > 0
    return torch.where(positive, base, 1) ** exponent * positive


class HungarianMatcher(nn.Module):
    """Pairs queries and targets of each image, the cheapest way."""

    def __init__(self, cost_gain=None, use_fl=True, alpha=0.25, gamma=2.0):
        super().__init__()
        if cost_gain is None:
            cost_gain = {"class": 1, "bbox": 5, "giou": 2}
        self.cost_gain = cost_gain
        self.use_fl = use_fl
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def forward(self, pred_bboxes, pred_scores, gt_bboxes, gt_cls, gt_groups):
        """For each image its queries, ascending, and the target of each, counted through the batch."""
        images, queries, classes = pred_scores.shape
        if sum(gt_groups) == 0:
            nothing = torch.zeros(0, dtype=torch.long, device=pred_scores.device)
            return [(nothing, nothing)] * images
        boxes = full_precision(pred_bboxes).view(-1, 4)
        logits = full_precision(pred_scores).view(-1, classes)
        cost = self.costs(boxes, logits, gt_bboxes.to(boxes.dtype), gt_cls.long())
        cost[cost.isnan() | cost.isinf()] = 0.0
        cost = cost.view(images, queries, -1).cpu()
        indices, first = [], 0
        for image, own in enumerate(cost.split(gt_groups, dim=-1)):
            query, target = linear_sum_assignment(own[image])
            query = torch.tensor(query, dtype=torch.long, device=pred_scores.device)
            target = torch.tensor(target, dtype=torch.long, device=pred_scores.device)
            indices.append((query, target + first))
            first += gt_groups[image]
        return indices

    def costs(self, boxes, logits, gt_bboxes, gt_cls):
        """Of every query of the batch with every target of the batch."""
        cost_class = self.class_cost(logits, gt_cls)
        cost_bbox = (boxes.unsqueeze(1) - gt_bboxes.unsqueeze(0)).abs().sum(dim=-1)
        cost_giou = 1.0 - iou_and_giou(boxes.unsqueeze(1), gt_bboxes.unsqueeze(0))[1]
        return (
            self.cost_gain["class"] * cost_class
            + self.cost_gain["bbox"] * cost_bbox
            + self.cost_gain["giou"] * cost_giou
        )

    def class_cost(self, logits, gt_cls):
        if not self.use_fl:
            return -logits.softmax(dim=-1)[:, gt_cls]
        p = logits.sigmoid()[:, gt_cls]
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
        return positive - negative


class RTDETRDetectionLoss(nn.Module):
    """Called as Ultralytics' class of this name."""

    def __init__(
        self,
        nc=80,
        loss_gain=None,
        aux_loss=True,
        use_fl=True,
        use_vfl=False,
        use_uni_match=False,
        uni_match_ind=0,
        gamma=1.5,
        alpha=0.25,
    ):
        super().__init__()
        if loss_gain is None:
            loss_gain = {"class": 1, "bbox": 5, "giou": 2}
        self.nc = nc
        self.loss_gain = loss_gain
        self.aux_loss = aux_loss
        self.use_fl = use_fl
        self.use_vfl = use_vfl
        self.use_uni_match = use_uni_match
        self.uni_match_ind = uni_match_ind
        self.gamma = gamma
        self.alpha = alpha
        self.matcher = HungarianMatcher(cost_gain={"class": 2, "bbox": 5, "giou": 2})

    def forward(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        """Every loss by its key; those of denoising queries are 0 where there are none."""
        pred_bboxes, pred_scores = preds
        losses = self.losses_of_layers(pred_bboxes, pred_scores, batch)
        if dn_meta is None:
            return losses | {name + "_dn": torch.zeros_like(loss) for name, loss in losses.items()}
        pairs = self.get_dn_match_indices(dn_meta["dn_pos_idx"], dn_meta["dn_num_group"], dn_meta["dn_gt_idx"])
        of_denoising = self.losses_of_layers(dn_bboxes, dn_scores, batch, pairs)
        return losses | {name + "_dn": loss for name, loss in of_denoising.items()}

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        """For each image its positive slots, group after group, and the target of each."""
        indices = []
        for pos_idx, gt_idx in zip(dn_pos_idx, dn_gt_idx, strict=True):
            if len(gt_idx) > 0:
                indices.append((pos_idx.long(), gt_idx.long().repeat(dn_num_group)))
            else:
                nothing = torch.zeros(0, dtype=torch.long, device=gt_idx.device)
                indices.append((nothing, nothing))
        return indices

    def losses_of_layers(self, bboxes, scores, batch, pairs=None):
        """The losses of the last layer, and the sums of those of the others; `pairs` serve every layer."""
        losses = self.losses_of_layer(bboxes[-1], scores[-1], batch, pairs)
        if not self.aux_loss:
            return losses
        shared = pairs
        if shared is None and self.use_uni_match:
            shared = self.matched(bboxes[self.uni_match_ind], scores[self.uni_match_ind], batch)
        auxiliary = torch.zeros(3, dtype=losses["loss_class"].dtype, device=bboxes.device)
        for layer_bboxes, layer_scores in zip(bboxes[:-1], scores[:-1], strict=True):
            of_layer = self.losses_of_layer(layer_bboxes, layer_scores, batch, shared)
            auxiliary = auxiliary + torch.stack(list(of_layer.values()))
        for index, name in enumerate(["class", "bbox", "giou"]):
            losses[f"loss_{name}_aux"] = auxiliary[index]
        return losses

    def matched(self, bboxes, scores, batch):
        return self.matcher(bboxes, scores, batch["bboxes"], batch["cls"], batch["gt_groups"])

    def losses_of_layer(self, bboxes, scores, batch, pairs=None):
        """The three losses of one layer."""
        if pairs is None:
            pairs = self.matched(bboxes, scores, batch)
        pred_bboxes, pred_scores = full_precision(bboxes), full_precision(scores)
        gt_bboxes = batch["bboxes"].to(pred_bboxes.dtype)
        image = torch.cat([torch.full_like(queries, index) for index, (queries, _) in enumerate(pairs)])
        query = torch.cat([queries for queries, _ in pairs])
        target = torch.cat([targets for _, targets in pairs])
        matched, wanted = pred_bboxes[image, query], gt_bboxes[target]

        labels = torch.full(pred_scores.shape[:2], self.nc, dtype=torch.long, device=pred_scores.device)
        labels[image, query] = batch["cls"].long()[target]
        gt_scores = torch.zeros(pred_scores.shape[:2], dtype=pred_scores.dtype, device=pred_scores.device)
        if len(target) > 0:
            gt_scores[image, query] = iou_and_giou(matched.detach(), wanted)[0]
        losses = {"loss_class": self.class_loss(pred_scores, labels, gt_scores, len(target))}
        losses.update(self.box_losses(matched, wanted))
        return losses

    def box_losses(self, matched, wanted):
        """L1 and GIoU losses of matched boxes; without any, zeros that the predictions are connected to."""
        if len(matched) == 0:
            return {"loss_bbox": matched.sum(), "loss_giou": matched.sum()}
        distances = (matched - wanted).abs()
        loss_bbox = distances.sum() / len(matched)
        giou = iou_and_giou(matched, wanted)[1]
        loss_giou = (1.0 - giou).sum() / len(matched)
        return {"loss_bbox": self.loss_gain["bbox"] * loss_bbox, "loss_giou": self.loss_gain["giou"] * loss_giou}

    def class_loss(self, logits, labels, gt_scores, pairs):
        """Of all logits: each query has the class of its target, or none."""
        one_hot = functional.one_hot(labels, self.nc + 1)[..., :-1].to(logits.dtype)
        gt_scores = gt_scores.unsqueeze(-1) * one_hot
        if self.use_fl:
            if self.use_vfl and pairs > 0:
                terms = self.varifocal(logits, gt_scores, one_hot)
            else:
                terms = self.focal(logits, one_hot)
            loss = terms.sum() / max(pairs, 1)
        else:
            terms = functional.binary_cross_entropy_with_logits(logits, gt_scores, reduction="none")
            loss = terms.mean(dim=1).sum()
        return self.loss_gain["class"] * loss

    def focal(self, logits, label):
        loss = functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
        p = logits.sigmoid()
        p_t = p * label + (1 - p) * (1 - label)
        loss = loss * power(1.0 - p_t, self.gamma)
        if self.alpha > 0:
            loss = loss * (self.alpha * label + (1 - self.alpha) * (1 - label))
        return loss

    def varifocal(self, logits, gt_scores, label):
        weight = self.alpha * power(logits.sigmoid(), self.gamma) * (1 - label) + gt_scores * label
        loss = functional.binary_cross_entropy_with_logits(logits, gt_scores, reduction="none")
        return loss * weight
