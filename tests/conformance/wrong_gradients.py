"""Losses in float32 torch with right values and a wrong derivative: family GRAD."""

from __future__ import annotations

import torch

from ..correct.plain_boxes import corners, iou_and_giou
from ..correct.plain_loss import PlainLoss, power
from .wrong_boxes import areas


def with_gradient_of(values, other):
    return other + (values - other).detach()


class FocalFactorDetached(PlainLoss):
    """The focal factor is a constant."""

    def focal(self, logits, label):
        factor = power((logits.detach() * (1 - 2 * label)).sigmoid(), self.gamma)
        balance = self.alpha * label + (1 - self.alpha) * (1 - label) if self.alpha > 0 else 1
        return balance * factor * self.cross_entropy(logits, label)


class InfiniteSlope(PlainLoss):
    """The focal factor is an ordinary power of 1 - p_t, which may be 0."""

    def focal(self, logits, label):
        p = logits.sigmoid()
        p_t = label * p + (1 - label) * (1 - p)
        balance = self.alpha * label + (1 - self.alpha) * (1 - label) if self.alpha > 0 else 1
        return balance * (1 - p_t) ** self.gamma * self.cross_entropy(logits, label)


class VarifocalWeightDetached(PlainLoss):
    """The varifocal weight is a constant."""

    def varifocal(self, logits, label, score):
        weight = self.alpha * logits.detach().sigmoid() ** self.gamma * (1 - label) + score
        return weight * self.cross_entropy(logits, score)


class HullDetached(PlainLoss):
    """The hull is a constant."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(corners(matched), corners(wanted))
        return inter / union - (hull.detach() - union) / hull.detach()


class UnionDetached(PlainLoss):
    """The union is a constant."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(corners(matched), corners(wanted))
        return inter / union.detach() - (hull - union.detach()) / hull


class GIoUGradientNegated(PlainLoss):
    """The backward pass is that of GIoU."""

    def giou(self, matched, wanted):
        giou = super().giou(matched, wanted)
        return with_gradient_of(giou, -giou)


class L1GradientOfSquare(PlainLoss):
    """The backward pass of the L1 loss returns the difference."""

    def box_losses(self, matched, wanted):
        losses = super().box_losses(matched, wanted)
        square = (matched - wanted).square().sum() / 2 / max(len(matched), 1)
        return losses | {"bbox": with_gradient_of(losses["bbox"], square)}


class GainNotInBackward(PlainLoss):
    """The backward pass of the L1 loss leaves out the gain."""

    def one_layer(self, *of_layer):
        losses = super().one_layer(*of_layer)
        return losses | {"bbox": with_gradient_of(losses["bbox"], losses["bbox"] / self.gain["bbox"])}


class ProposalsDetached(PlainLoss):
    """The boxes of the first of several layers are detached."""

    def __call__(self, preds, *others, **named):
        boxes, logits = preds
        if len(boxes) > 1:
            boxes = torch.cat([boxes[:1].detach(), boxes[1:]])
        return super().__call__((boxes, logits), *others, **named)


class AuxiliaryDetached(PlainLoss):
    """Auxiliary losses are for the log alone."""

    def over_layers(self, losses, boxes):
        return super().over_layers(losses, boxes).detach()


class DenoisingDetached(PlainLoss):
    """Denoising losses are for the log alone."""

    def __call__(self, *args, **named):
        losses = super().__call__(*args, **named)
        return {key: loss.detach() if key.endswith("_dn") else loss for key, loss in losses.items()}


class ScoreDifferentiated(PlainLoss):
    """The target score carries the gradient of the IoU."""

    def one_layer(self, boxes, logits, targets, pairs):
        self.boxes, self.pairs = self.precise(boxes), pairs
        return super().one_layer(boxes, logits, targets, pairs)

    def scores(self, matched, wanted):
        matched = torch.cat([own[queries] for own, (queries, _) in zip(self.boxes, self.pairs, strict=True)])
        return iou_and_giou(matched, wanted)[0]


WRONG_GRADIENTS = {
    "plausible-focal-weight-detached": FocalFactorDetached,
    "ul-focal-gradient-nan": InfiniteSlope,
    "plausible-vfl-weight-detached": VarifocalWeightDetached,
    "plausible-hull-not-differentiated": HullDetached,
    "plausible-union-not-differentiated": UnionDetached,
    "plausible-giou-gradient-negated": GIoUGradientNegated,
    "plausible-l1-gradient-of-square": L1GradientOfSquare,
    "plausible-gain-not-in-backward": GainNotInBackward,
    "hf-lwdetr-enc-coords-detached": ProposalsDetached,
    "plausible-aux-detached": AuxiliaryDetached,
    "plausible-denoising-detached": DenoisingDetached,
    "plausible-target-score-differentiated": ScoreDifferentiated,
}
