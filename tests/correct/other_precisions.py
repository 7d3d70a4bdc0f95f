"""The plain loss in other precisions than float32."""

from __future__ import annotations

import torch

from .plain_loss import PlainLoss
from .plain_matcher import PlainMatcher


class MatcherInDouble(PlainMatcher):
    """Costs in float64."""

    def precise(self, tensor):
        return tensor.double()

    def cost(self, boxes, logits, gt_bboxes, gt_cls):
        return super().cost(boxes, logits, gt_bboxes.double(), gt_cls)


class DoubleLosses(PlainLoss):
    """Computes in float64, and returns that."""

    matcher_class = MatcherInDouble

    def precise(self, tensor):
        return tensor.double()


class DoubleInside(DoubleLosses):
    """Computes in float64, and returns float32 unless it was given float64."""

    def __call__(self, preds, *others, **named):
        losses = super().__call__(preds, *others, **named)
        dtype = torch.promote_types(preds[0].dtype, torch.float32)
        return {key: loss.to(dtype) for key, loss in losses.items()}


class HalfElementwise(PlainLoss):
    """Computes every term in the dtype of its operands, and adds them up in float32; only the matcher is precise."""

    def precise(self, tensor):
        return tensor

    def total(self, terms):
        return terms.sum(dtype=torch.promote_types(terms.dtype, torch.float32))

    def nothing(self, boxes):
        return self.total(boxes[..., :0])


class HalfTargets(HalfElementwise):
    """The same with target boxes in the dtype of the predictions, so that terms of boxes are in half precision too."""

    def one_layer(self, boxes, logits, targets, pairs):
        gt_bboxes, gt_cls = targets
        return super().one_layer(boxes, logits, (gt_bboxes.to(boxes.dtype), gt_cls), pairs)


class AutocastLeftAlone(PlainLoss):
    """Computes in float32 inside a region of bfloat16 autocast, which it leaves for its own arithmetic."""

    def __call__(self, *arguments, **named):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
            return super().__call__(*arguments, **named)


class MatcherByProducts(PlainMatcher):
    """Adds its weighted terms up by a product of matrices, which autocast computes in bfloat16."""

    def weighted(self, terms):
        table = torch.stack(list(terms.values()), dim=-1)
        gains = table.new_tensor([self.cost_gain[name] for name in terms])
        return (table @ gains[:, None])[..., 0].to(table.dtype)


class ByProducts(PlainLoss):
    """Adds up distances, too, by a product of matrices."""

    matcher_class = MatcherByProducts

    def box_losses(self, matched, wanted):
        number = max(len(matched), 1)
        distances = (matched - wanted).abs()
        l1 = distances @ torch.ones_like(distances[:1]).reshape(-1, 1) if len(matched) else distances
        return {"bbox": self.total(l1) / number, "giou": self.total(1 - self.giou(matched, wanted)) / number}
