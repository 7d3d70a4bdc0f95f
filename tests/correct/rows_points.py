"""Masks at points without any sampling: every point is a row of shares of the pixels, and values are products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from .rows_losses import RowCriterion, flat, number_of_pairs, number_of_targets, precise
from .rows_matching import costs, solved


class MaskRows(NamedTuple):
    """Masks of ordinary and of denoising queries, those of targets, and points of targets and of images."""

    ordinary: torch.Tensor
    denoising: torch.Tensor | None
    wanted: torch.Tensor
    of_targets: torch.Tensor
    of_images: torch.Tensor


class PointRowCriterion(RowCriterion):
    """Every layer's matched masks are rows too."""

    def __call__(self, boxes, logits, targets, denoising=None):
        losses = super().__call__(boxes, logits, targets, denoising)
        if targets.masks is None:
            return losses
        by_box = self.pairs(precise(boxes), precise(logits), targets)[1]
        losses |= self.at_points(targets.masks.ordinary, targets.masks, by_box, self.own.names, "", number_of_targets)
        if denoising is None:
            return losses
        given, pairs = targets.masks.denoising, [denoising[2]] * len(denoising[0])
        return losses | self.at_points(given, targets.masks, pairs, self.own.dn_names, "dn", number_of_pairs)

    def at_points(self, given, masks, pairs, names, part, number_of):
        rows, chosen = flat(pairs, given.shape[2])
        points = masks.of_targets[chosen]
        x = values(precise(given).flatten(0, 2)[rows], points)
        t = values(masks.wanted[chosen].to(x), points).detach()
        layer = rows // (given.shape[1] * given.shape[2])
        _, counts = self.shared.get(part, self.counted[part])
        losses, suffixes = {}, names(len(given))
        for term, of_pairs in (("mask", entropy(x, t)), ("dice", dice(x, t))):
            sums = x.new_zeros(len(given)).index_add(0, layer, of_pairs) / number_of(counts)
            for place in range(len(given)) if self.config.aux_loss else [-1]:
                losses[suffixes[place].format(term)] = self.config.loss_gain[term] * sums[place]
        return losses

    def matchings(self, boxes, logits, targets):
        gain = self.own.gain
        cost = costs(boxes, logits, targets, self.own.class_cost, gain, self.own.eps)
        return solved(cost + costs_of_masks(targets, gain), targets.counts)


def values(masks, points):
    """Of each mask at points of its own."""
    columns, rows = shares(points[..., 0], masks.shape[2]), shares(points[..., 1], masks.shape[1])
    return torch.einsum("nkh,nhw,nkw->nk", rows.to(masks), masks, columns.to(masks))


def shares(places, pixels):
    """How much of the value at each place along an axis every pixel has: nothing a pixel away."""
    away = places[..., None] * pixels - 0.5 - torch.arange(pixels)
    return (1 - away.abs()).clamp(min=0)


def entropy(x, t):
    return -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x)).mean(dim=1)


def dice(x, t):
    both, either = (x.sigmoid() * t).sum(dim=1), x.sigmoid().sum(dim=1) + t.sum(dim=1)
    return (either - 2 * both) / (either + 1)


@torch.no_grad()
def costs_of_masks(targets, gain):
    """Of every query of every layer with the targets of its own image; 0 with all others."""
    masks = targets.masks
    if masks is None:
        return 0.0
    given = precise(masks.ordinary)
    cost = np.zeros((*given.shape[:3], len(targets.classes)))
    ends = np.cumsum(targets.counts)
    for image, (count, end) in enumerate(zip(targets.counts, ends, strict=True)):
        points = masks.of_images[image : image + 1]
        queries = given[:, image].flatten(0, 1)
        x = values(queries, points.expand(len(queries), -1, -1))
        for target in range(end - count, end):
            t = values(masks.wanted[target : target + 1].to(x), points).expand(len(x), -1)
            own = gain.get("mask", 0.0) * entropy(x, t) + gain.get("dice", 0.0) * dice(x, t)
            cost[:, image, :, target] = own.unflatten(0, (len(given), -1)).numpy()
    return cost
