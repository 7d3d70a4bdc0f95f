"""The plain loss in pieces, for little memory or several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.checkpoint import checkpoint

from .plain_loss import PlainLoss

CHUNK = 7
"""Queries at a time: a number that divides hardly any number of queries."""


def recomputed(piece, *arguments):
    return checkpoint(piece, *arguments, use_reentrant=False, preserve_rng_state=False)


class InChunks(PlainLoss):
    """A few queries at a time; each chunk is computed again in the backward pass."""

    def class_loss(self, logits, address, scores):
        label, score = torch.zeros_like(logits), torch.zeros_like(logits)
        label[address], score[address] = 1, scores.to(logits.dtype)
        pieces = zip(*(each.flatten(0, 1).split(CHUNK) for each in (logits, label, score)), strict=True)
        varifocal = self.use_vfl and len(scores) > 0
        sums = [recomputed(self.piece, *each, varifocal) for each in pieces]
        return sum(sums) / (max(len(scores), 1) if self.use_fl else logits.shape[1])

    def piece(self, logits, label, score, varifocal):
        if not self.use_fl:
            return self.cross_entropy(logits, score).sum()
        return (self.varifocal(logits, label, score) if varifocal else self.focal(logits, label)).sum()

    def box_losses(self, matched, wanted):
        """Pair by pair."""
        pairs = [
            super(InChunks, self).box_losses(*pair) for pair in zip(matched.split(1), wanted.split(1), strict=True)
        ]
        if not pairs:
            return super().box_losses(matched, wanted)
        return {term: sum(pair[term] for pair in pairs) / len(pairs) for term in ("bbox", "giou")}


class LayersInThreads(PlainLoss):
    """Every layer matched and computed in a thread of its own."""

    def matched(self, boxes, logits, targets, gt_groups):
        if self.use_uni_match:
            return super().matched(boxes, logits, targets, gt_groups)
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda *layer: self.matcher(*layer, *targets, gt_groups), boxes, logits))

    def all_layers(self, *of_each_layer):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.one_layer, *of_each_layer))
