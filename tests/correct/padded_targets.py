"""Targets padded to the same number in every image, with a mask, as DETR in JAX has them; dense tensors throughout."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

EPS = 1e-7


def areas(a, b):
    """Intersection, union and hull of broadcast boxes given by their corners x0, y0, x1, y1."""
    a, b = torch.broadcast_tensors(a, b)
    inner = torch.minimum(a, b)[..., 2:] - torch.maximum(a, b)[..., :2]
    outer = torch.maximum(a, b)[..., 2:] - torch.minimum(a, b)[..., :2]
    inter = torch.where(inner > 0, inner, 0).prod(dim=-1)
    area_a, area_b = ((each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (a, b))
    return inter, area_a + area_b - inter + EPS, outer.prod(dim=-1) + EPS


def to_corners(boxes):
    half = boxes[..., 2:] * 0.5
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def padded(values, gt_groups):
    """(images, most targets, …), zeros behind an image's own."""
    return torch.nn.utils.rnn.pad_sequence(list(values.split(list(gt_groups))), batch_first=True)


class Matcher:
    """Pairs in dense form: the query of every padded target, and whether it has one."""

    def __init__(self, cost_gain, use_fl=True, alpha=0.25, gamma=2.0):
        self.cost_gain, self.use_fl, self.alpha, self.gamma = cost_gain, use_fl, alpha, gamma

    def __call__(self, boxes, logits, gt_bboxes, gt_cls, gt_groups):
        """Pairs of every image, targets counted through the batch."""
        query, found = self.dense(boxes, logits, padded(gt_bboxes, gt_groups), padded(gt_cls, gt_groups), gt_groups)
        firsts = np.cumsum([0, *gt_groups[:-1]]).tolist()
        pairs = []
        for image, first in enumerate(firsts):
            own = found[image].nonzero()[:, 0]
            order = query[image, own].argsort()
            pairs.append((query[image, own][order], own[order] + first))
        return pairs

    @torch.no_grad()
    def dense(self, boxes, logits, gt_bboxes, gt_cls, gt_groups):
        """(images, most targets) of queries, and of whether they are matched. Costs of padding are above all others."""
        cost = self.costs(boxes, logits, gt_bboxes, gt_cls)
        cost = torch.where(torch.isfinite(cost), cost, 0.0)
        counts = torch.tensor(gt_groups)[:, None]
        real = torch.arange(gt_cls.shape[1]) < counts
        cost = torch.where(real[:, None, :], cost, cost.abs().sum() + 1.0)
        query = torch.zeros(gt_cls.shape, dtype=torch.long)
        found = torch.zeros(gt_cls.shape, dtype=torch.bool)
        for image, own in enumerate(cost.double().numpy()):
            rows, columns = map(torch.as_tensor, linear_sum_assignment(own))
            query[image, columns], found[image, columns] = rows, True
        return query, found & real

    def costs(self, boxes, logits, gt_bboxes, gt_cls):
        """(images, queries, most targets)."""
        boxes, logits = single(boxes), single(logits)
        index = gt_cls[:, None].expand(-1, boxes.shape[1], -1)
        p = (logits.sigmoid() if self.use_fl else logits.softmax(dim=-1)).gather(2, index)
        of_class = -p
        if self.use_fl:
            of_class = self.alpha * (1 - p).pow(self.gamma) * -torch.log(p + 1e-8)
            of_class = of_class - (1 - self.alpha) * p.pow(self.gamma) * -torch.log(1 - p + 1e-8)
        inter, union, hull = areas(to_corners(boxes)[:, :, None], to_corners(single(gt_bboxes))[:, None])
        l1 = (boxes[:, :, None] - gt_bboxes[:, None]).abs().sum(dim=-1)
        giou = inter / union - (hull - union) / hull
        return self.cost_gain["class"] * of_class + self.cost_gain["bbox"] * l1 + self.cost_gain["giou"] * (1 - giou)


class PaddedTargets:
    """Constructor and call of Ultralytics' `RTDETRDetectionLoss`."""

    def __init__(self, nc, loss_gain, aux_loss=True, use_fl=True, use_vfl=False, **others):
        self.nc, self.gain, self.aux_loss, self.use_fl, self.use_vfl = nc, loss_gain, aux_loss, use_fl, use_vfl
        self.alpha, self.gamma = others.get("alpha", 0.25), others.get("gamma", 1.5)
        self.shared = others.get("uni_match_ind", 0) if others.get("use_uni_match") else None
        self.matcher = Matcher({"class": 2.0, "bbox": 5.0, "giou": 2.0})

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        gt = padded(batch["bboxes"], batch["gt_groups"]), padded(batch["cls"], batch["gt_groups"])
        pairs = [self.matcher.dense(*layer, *gt, batch["gt_groups"]) for layer in zip(*preds, strict=True)]
        if self.shared is not None:
            pairs = [pairs[self.shared]] * (len(pairs) - 1) + pairs[-1:]
        losses = self.part(*preds, [(*gt, *own) for own in pairs])
        if dn_meta is None:
            return losses | {f"{key}_dn": torch.zeros_like(loss) for key, loss in losses.items()}
        of_denoising = self.part(dn_bboxes, dn_scores, [self.denoised(batch, dn_meta)] * len(dn_bboxes))
        return losses | {f"{key}_dn": loss for key, loss in of_denoising.items()}

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        return [(slots, torch.cat([own] * dn_num_group)) for slots, own in zip(dn_pos_idx, dn_gt_idx, strict=True)]

    def denoised(self, batch, meta):
        """Padded targets of the denoising slots, the slots, and which of them are none."""
        pairs = self.get_dn_match_indices(meta["dn_pos_idx"], meta["dn_num_group"], meta["dn_gt_idx"])
        counts = [len(slots) for slots, _ in pairs]
        slots, targets = (padded(torch.cat(side), counts) for side in zip(*pairs, strict=True))
        real = torch.arange(slots.shape[1]) < torch.tensor(counts)[:, None]
        return batch["bboxes"][targets], batch["cls"][targets], slots, real

    def part(self, boxes, logits, targets):
        layers = [self.one_layer(*layer, *own) for *layer, own in zip(boxes, logits, targets, strict=True)]
        losses = {f"loss_{term}": loss for term, loss in layers[-1].items()}
        if self.aux_loss:
            zero = single(boxes[..., :0]).sum()
            losses |= {f"{key}_aux": zero + sum(each[key[5:]] for each in layers[:-1]) for key in losses}
        return losses

    def one_layer(self, boxes, logits, gt_bboxes, gt_cls, query, real):
        """The losses of a layer: every padded target has a query, and a weight of 1 or 0."""
        boxes, x, wanted = single(boxes), single(logits), single(gt_bboxes).to(single(boxes).dtype)
        matched = boxes.gather(1, query[..., None].expand(-1, -1, 4))
        matched = torch.where(real[..., None], matched, wanted.detach())
        inter, union, hull = areas(to_corners(matched), to_corners(wanted))
        number = real.sum().clamp(min=1)
        hits = real[..., None] * torch.nn.functional.one_hot(gt_cls, self.nc)
        y = torch.zeros_like(x).scatter_add(1, query[..., None].expand_as(hits), hits.to(x.dtype))
        score = torch.where(real, (inter / union).detach(), 0)[..., None] * hits
        q = torch.zeros_like(x).scatter_add(1, query[..., None].expand_as(hits), score.to(x.dtype))
        giou = torch.where(real, 1 - inter / union + (hull - union) / hull, 0)
        divisor = number if self.use_fl else x.shape[1]
        return {
            "class": self.gain["class"] * self.class_terms(x, y, q, varifocal=bool(real.any())).sum() / divisor,
            "bbox": self.gain["bbox"] * (matched - wanted).abs().sum() / number,
            "giou": self.gain["giou"] * giou.sum() / number,
        }

    def class_terms(self, x, y, q, varifocal):
        entropy = torch.logaddexp(x, torch.zeros_like(x)) - x * q
        if not self.use_fl:
            return entropy
        faded = torch.exp(self.gamma * torch.nn.functional.logsigmoid(x))
        if self.use_vfl and varifocal:
            return (self.alpha * faded * (1 - y) + q) * entropy
        right = torch.exp(self.gamma * torch.nn.functional.logsigmoid(-x)) * -torch.nn.functional.logsigmoid(x)
        positive, negative = (self.alpha, 1 - self.alpha) if self.alpha > 0 else (1, 1)
        return y * positive * right + (1 - y) * negative * faded * -torch.nn.functional.logsigmoid(-x)


def single(tensor):
    return tensor if tensor.dtype == torch.float64 else tensor.float()
