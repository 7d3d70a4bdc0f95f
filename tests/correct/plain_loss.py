"""The RT-DETR loss as it is taught: loops over layers and images, one-hot labels, derivatives by autograd."""

from __future__ import annotations

import torch
from torch.nn import functional

from .plain_boxes import iou_and_giou
from .plain_matcher import PlainMatcher

TERMS = ("class", "bbox", "giou")


class PlainLoss:
    """Called as Ultralytics' `RTDETRDetectionLoss`; every step is a method that a variation can replace."""

    matcher_class = PlainMatcher

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
        self.nc, self.gain = nc, loss_gain or {"class": 1, "bbox": 5, "giou": 2}
        self.aux_loss, self.use_fl, self.use_vfl = aux_loss, use_fl, use_vfl
        self.use_uni_match, self.uni_match_ind = use_uni_match, uni_match_ind
        self.gamma, self.alpha = gamma, alpha
        self.matcher = self.matcher_class(cost_gain={"class": 2, "bbox": 5, "giou": 2})

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        """Every loss by its key."""
        targets = (batch["bboxes"], batch["cls"])
        losses = self.parts(*preds, targets, self.matched(*preds, targets, batch["gt_groups"]))
        if dn_meta is None:
            return losses | {f"{key}_dn": self.nothing(preds[0]) for key in losses}
        pairs = self.get_dn_match_indices(dn_meta["dn_pos_idx"], dn_meta["dn_num_group"], dn_meta["dn_gt_idx"])
        of_denoising = self.parts(dn_bboxes, dn_scores, targets, [pairs] * len(dn_bboxes))
        return losses | {f"{key}_dn": loss for key, loss in of_denoising.items()}

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        """The pairs of every image: its positive slots, and its targets once for each group."""
        return [(slots, targets.repeat(dn_num_group)) for slots, targets in zip(dn_pos_idx, dn_gt_idx, strict=True)]

    def matched(self, boxes, logits, targets, gt_groups):
        """For each layer the pairs of every image."""
        layers = len(boxes)
        own = [layers - 1] if self.use_uni_match else range(layers)
        pairs = {layer: self.matcher(boxes[layer], logits[layer], *targets, gt_groups) for layer in own}
        if self.use_uni_match and layers > 1:
            shared = self.uni_match_ind
            pairs |= dict.fromkeys(range(layers - 1), self.matcher(boxes[shared], logits[shared], *targets, gt_groups))
        return [pairs[layer] for layer in range(layers)]

    def parts(self, boxes, logits, targets, pairs):
        """The losses of the main layer, and the sums of those of the others."""
        layers = self.all_layers(boxes, logits, [targets] * len(boxes), pairs)
        losses = {f"loss_{term}": layers[-1][term] for term in TERMS}
        if self.aux_loss:
            losses |= {
                f"loss_{term}_aux": self.over_layers([each[term] for each in layers[:-1]], boxes) for term in TERMS
            }
        return losses

    def all_layers(self, *of_each_layer):
        return [self.one_layer(*layer) for layer in zip(*of_each_layer, strict=True)]

    def over_layers(self, losses, boxes):
        return torch.stack(losses).sum() if losses else self.nothing(boxes)

    def nothing(self, boxes):
        return self.precise(boxes[..., :0]).sum()

    def one_layer(self, boxes, logits, targets, pairs):
        """The three losses of one layer."""
        boxes, logits = self.precise(boxes), self.precise(logits)
        gt_bboxes, gt_cls = targets
        image = torch.cat([torch.full_like(queries, image) for image, (queries, _) in enumerate(pairs)])
        query, target = (torch.cat(side) for side in zip(*pairs, strict=True))
        matched, wanted = boxes[image, query], gt_bboxes[target]
        of_class = self.class_loss(logits, (image, query, gt_cls[target]), self.scores(matched.detach(), wanted))
        losses = {"class": of_class} | self.box_losses(matched, wanted)
        return {term: self.gain[term] * loss for term, loss in losses.items()}

    def precise(self, tensor):
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def scores(self, matched, wanted):
        return iou_and_giou(matched, wanted)[0]

    def box_losses(self, matched, wanted):
        """L1 and GIoU losses of matched boxes."""
        number = max(len(matched), 1)
        distances = (matched - wanted).abs()
        return {"bbox": self.total(distances) / number, "giou": self.total(1 - self.giou(matched, wanted)) / number}

    def giou(self, matched, wanted):
        return iou_and_giou(matched, wanted)[1]

    def class_loss(self, logits, address, scores):
        """Classification loss of all logits, those at the addresses being of the right class."""
        number = len(scores)
        label, score = self.zeros(logits), self.zeros(logits)
        label[address], score[address] = 1, scores.to(logits.dtype)
        if not self.use_fl:
            return self.total(self.cross_entropy(logits, score)) / logits.shape[1]
        terms = self.varifocal(logits, label, score) if self.use_vfl and number else self.focal(logits, label)
        return self.total(terms) / max(number, 1)

    def zeros(self, logits):
        return torch.zeros_like(logits)

    def cross_entropy(self, logits, score):
        return functional.binary_cross_entropy_with_logits(logits, score, reduction="none")

    def focal(self, logits, label):
        wrong = (logits * (1 - 2 * label)).sigmoid()  # 1 - p_t
        balance = self.alpha * label + (1 - self.alpha) * (1 - label) if self.alpha > 0 else 1
        return balance * power(wrong, self.gamma) * self.cross_entropy(logits, label)

    def varifocal(self, logits, label, score):
        weight = self.alpha * power(logits.sigmoid(), self.gamma) * (1 - label) + score
        return weight * self.cross_entropy(logits, score)

    def total(self, terms):
        return terms.sum()


def power(base, exponent):
    """base ** exponent, whose derivative is 0 at 0 also for exponents below 1."""
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1.0) ** exponent, 0.0 if exponent else 1.0)
