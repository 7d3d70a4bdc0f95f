"""D-FINE's losses of distributions, all layers of a part in one computation."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .rows_boxes import iou
from .rows_distributions import distilled, localised
from .rows_losses import RowCriterion, flat, number_of_pairs, pairs_of, precise


class Part(NamedTuple):
    """Layers of ordinary or of denoising queries: what they are called, predictions, pairs, and names of losses."""

    name: str

    boxes: torch.Tensor
    logits: torch.Tensor
    corners: torch.Tensor
    references: torch.Tensor
    pairs: list
    names: list


class LocalRowCriterion(RowCriterion):
    """With logits of bins and reference boxes, of ordinary queries and of denoising ones, two losses more."""

    def __call__(self, boxes, logits, targets, denoising=None, distributions=()):
        losses = super().__call__(boxes, logits, targets, denoising)
        if not distributions:
            return losses
        _, by_box = self.pairs(precise(boxes), precise(logits), targets)
        matched = pairs_of(by_box[-1])
        counts, names = (matched, logits[-1, ..., 0].numel() - matched), self.own.names(len(boxes))
        ordinary, *others = distributions
        decoder = (each[1:] for each in (boxes, logits, ordinary[0]))  # the encoder has none
        parts = [Part("", *decoder, ordinary[1], by_box[1:], names[1:])]
        if denoising is not None:
            dn_boxes, dn_logits, pairs = denoising
            names = self.own.dn_names(len(dn_boxes))
            parts.append(Part("dn", dn_boxes, dn_logits, *others[0], [pairs] * len(dn_boxes), names))
        return losses | {key: loss for part in parts for key, loss in self.local(part, targets, counts).items()}

    def local(self, part, targets, counts):
        """By their keys; the last layer learns nothing."""
        boxes, logits, corners, references = map(precise, part[1:5])
        rows, chosen = flat(part.pairs, boxes.shape[2])
        wanted, shape = targets.boxes[chosen], logits.shape[:3]
        score = iou(boxes.detach().flatten(0, 2)[rows], wanted, self.own.eps)
        start = references.to(corners.dtype).expand(len(boxes), -1, -1, -1).flatten(0, 2)[rows]
        of_pairs = localised(corners.flatten(0, 2)[rows], wanted, start, score)
        fgl = boxes.new_zeros(len(boxes)).index_add(0, rows // (shape[1] * shape[2]), of_pairs)
        weights = logits[-1].detach().sigmoid().amax(-1).repeat(len(boxes), 1, 1).flatten()
        weights[rows], is_matched = score, torch.zeros_like(weights, dtype=torch.bool)
        is_matched[rows] = True
        ddf = distilled(corners, weights.view(shape), is_matched.view(shape), counts)
        gain, number = self.config.loss_gain, number_of_pairs(self.shared.get(part.name, self.counted[part.name])[1])
        losses = {
            name.format("fgl"): gain["fgl"] * of_layer / number for name, of_layer in zip(part.names, fgl, strict=True)
        }
        return losses | {
            name.format("ddf"): gain["ddf"] * of_layer for name, of_layer in zip(part.names[:-1], ddf, strict=False)
        }
