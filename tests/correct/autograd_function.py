"""NumPy in float64 behind `torch.autograd.Function`: forward and backward are worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from .closed_forms import layer_forms, pair_costs
from .solvers import cancelled_cycles

TERMS = ("class", "bbox", "giou")


class LayerLosses(torch.autograd.Function):
    """The three losses of one layer; their derivatives are computed with them, and kept."""

    @staticmethod
    def forward(ctx, boxes, logits, targets, pairs, config):
        forms = layer_forms(as_array(boxes), as_array(logits), targets, pairs, config)
        ctx.set_materialize_grads(False)
        ctx.slopes, ctx.inputs = [forms[term][1:] for term in TERMS], (boxes, logits)
        single = torch.promote_types(boxes.dtype, torch.float32)
        return tuple(torch.tensor(forms[term][0], dtype=single) for term in TERMS)

    @staticmethod
    def backward(ctx, *factors):
        sums = []
        for index, given in enumerate(ctx.inputs):
            slopes = [(factor, by[index]) for factor, by in zip(factors, ctx.slopes, strict=True) if factor is not None]
            total = sum(float(factor) * slope for factor, slope in slopes if slope is not None)
            sums.append(torch.as_tensor(total).to(given.dtype).expand(given.shape))
        return *sums, None, None, None


class Matcher:
    """The matcher on arrays."""

    def __init__(self, cost_gain, use_fl=True, alpha=0.25, gamma=2.0):
        self.cost_gain, self.options = cost_gain, {"use_fl": use_fl, "alpha": alpha, "gamma": gamma}

    def __call__(self, boxes, logits, gt_bboxes, gt_cls, gt_groups):
        boxes, logits, gt_bboxes, gt_cls = map(as_array, (boxes, logits, gt_bboxes, gt_cls))
        pairs, first = [], 0
        for image, count in enumerate(gt_groups):
            own = slice(first, first + count)
            cost = pair_costs(boxes[image], logits[image], gt_bboxes[own], gt_cls[own], self.cost_gain, **self.options)
            queries, targets = cancelled_cycles(cost)
            pairs.append((queries, targets + first))
            first += count
        return pairs


class AutogradFunction:
    """Constructor and call of Ultralytics' `RTDETRDetectionLoss`."""

    def __init__(self, **config):
        defaults = {"aux_loss": True, "use_fl": True, "use_vfl": False, "use_uni_match": False, "uni_match_ind": 0}
        self.config = SimpleNamespace(**(defaults | {"gamma": 1.5, "alpha": 0.25} | config))
        self.matcher = Matcher({"class": 2, "bbox": 5, "giou": 2})

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        main = self.part(preds, batch, self.matched(preds, batch), "")
        if dn_meta is None:
            zero = torch.zeros((), dtype=main["loss_class"].dtype)
            return main | {f"{key}_dn": zero.clone() for key in main}
        slots = [each.numpy() for each in dn_meta["dn_pos_idx"]]
        pairs = self.get_dn_match_indices(slots, dn_meta["dn_num_group"], dn_meta["dn_gt_idx"])
        return main | self.part((dn_bboxes, dn_scores), batch, [pairs] * len(dn_bboxes), "_dn")

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        groups = [own.repeat(dn_num_group).numpy() for own in dn_gt_idx]
        return list(zip(dn_pos_idx, groups, strict=True))

    def matched(self, preds, batch):
        targets = (batch["bboxes"], batch["cls"], batch["gt_groups"])
        pairs = [self.matcher(*layer, *targets) for layer in zip(*preds, strict=True)]
        if self.config.use_uni_match:
            pairs[:-1] = [pairs[self.config.uni_match_ind]] * (len(pairs) - 1)
        return pairs

    def part(self, predictions, batch, pairs, suffix):
        targets = as_array(batch["bboxes"]), batch["cls"].numpy()
        layers = zip(*predictions, pairs, strict=True)
        losses = [LayerLosses.apply(boxes, logits, targets, own, self.config) for boxes, logits, own in layers]
        named = {f"loss_{term}{suffix}": loss for term, loss in zip(TERMS, losses[-1], strict=True)}
        if self.config.aux_loss:
            zero = torch.zeros((), dtype=losses[-1][0].dtype)
            for index, term in enumerate(TERMS):
                named[f"loss_{term}_aux{suffix}"] = sum((each[index] for each in losses[:-1]), start=zero)
        return named


def as_array(tensor):
    """A copy in float64; integers stay what they are."""
    detached = tensor.detach()
    return (detached.double() if detached.is_floating_point() else detached).numpy().copy()
