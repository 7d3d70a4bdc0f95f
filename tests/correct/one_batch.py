"""All layers and images, ordinary or denoising, as one batch: sums of each layer by `index_add`."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

EPS = 1e-7


def areas(a, b):
    """Intersection, union and hull of pairs of boxes with x, y, width, height along the first axis."""
    lows = torch.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    highs = torch.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    inter = (highs - lows).relu().prod(dim=0)
    outer_lows = torch.minimum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    outer_highs = torch.maximum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    hull = (outer_highs - outer_lows).prod(dim=0)
    return inter, a[2] * a[3] + b[2] * b[3] - inter + EPS, hull + EPS


def softplus(x):
    """log(1 + exp(x)); torch's own returns x above 20, which is not exact enough for float64."""
    return torch.logaddexp(x, torch.zeros_like(x))


class Matcher:
    """Costs of all pairs of queries and targets of the whole batch at once; each image's block is cut out of them."""

    def __init__(self, cost_gain, use_fl=True, alpha=0.25, gamma=2.0):
        self.cost_gain, self.use_fl, self.alpha, self.gamma = cost_gain, use_fl, alpha, gamma

    @torch.no_grad()
    def __call__(self, boxes, logits, gt_bboxes, gt_cls, gt_groups):
        """Pairs of every image; layers may stand in for more images, whose targets come again for each layer."""
        single = torch.promote_types(boxes.dtype, torch.float32)
        boxes, logits = boxes.to(single), logits.to(single)
        cost = self.costs(boxes.flatten(0, 1), logits.flatten(0, 1), gt_bboxes, gt_cls)
        blocks = cost.unflatten(0, boxes.shape[:2])
        ends = torch.tensor([0, *gt_groups]).cumsum(0).tolist()
        pairs = []
        for image, block in enumerate(blocks):
            own = image % len(gt_groups)
            query, target = linear_sum_assignment(block[:, ends[own] : ends[own + 1]].numpy())
            pairs.append((torch.as_tensor(query), torch.as_tensor(target) + ends[own]))
        return pairs

    def costs(self, boxes, logits, gt_bboxes, gt_cls):
        inter, union, hull = areas(boxes.T[:, :, None], gt_bboxes.T[:, None, :])
        cost = self.cost_gain["bbox"] * (boxes[:, None] - gt_bboxes).abs().sum(dim=-1)
        cost = cost + self.cost_gain["giou"] * (1 - inter / union + (hull - union) / hull)
        cost = cost + self.cost_gain["class"] * self.of_class(logits).index_select(1, gt_cls)
        return cost.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def of_class(self, logits):
        """Class cost of every class."""
        if not self.use_fl:
            return -logits.softmax(dim=-1)
        p = logits.sigmoid()
        background = (1 - self.alpha) * p**self.gamma * (1 - p + 1e-8).log()
        return background - self.alpha * (1 - p) ** self.gamma * (p + 1e-8).log()


class OneBatch:
    """Constructor and call of Ultralytics' `RTDETRDetectionLoss`."""

    def __init__(self, nc, loss_gain, aux_loss=True, use_fl=True, use_vfl=False, **others):
        self.gain, self.aux_loss, self.use_fl, self.use_vfl = loss_gain, aux_loss, use_fl, use_vfl
        self.nc, self.gamma, self.alpha = nc, others.get("gamma", 1.5), others.get("alpha", 0.25)
        self.shared = others.get("uni_match_ind", 0) if others.get("use_uni_match") else None
        self.matcher = Matcher({"class": 2, "bbox": 5, "giou": 2})

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        losses = self.sums(*preds, self.addresses(*preds, batch), batch)
        if dn_meta is None:
            return losses | {f"{key}_dn": torch.zeros_like(loss) for key, loss in losses.items()}
        pairs = self.get_dn_match_indices(dn_meta["dn_pos_idx"], dn_meta["dn_num_group"], dn_meta["dn_gt_idx"])
        sums = self.sums(dn_bboxes, dn_scores, flat(pairs * len(dn_bboxes), dn_bboxes.shape[2]), batch)
        return losses | {f"{key}_dn": loss for key, loss in sums.items()}

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        return [(slot, target.tile(dn_num_group)) for slot, target in zip(dn_pos_idx, dn_gt_idx, strict=True)]

    def addresses(self, boxes, logits, batch):
        """Row of each matched query, all layers and images counted through, and its target."""
        targets = (batch["bboxes"], batch["cls"], batch["gt_groups"])
        pairs = self.matcher(boxes.detach().flatten(0, 1), logits.detach().flatten(0, 1), *targets)
        images = boxes.shape[1]
        if self.shared is not None:
            own = pairs[self.shared * images : (self.shared + 1) * images]
            pairs = own * (len(boxes) - 1) + pairs[-images:]
        return flat(pairs, boxes.shape[2])

    def sums(self, boxes, logits, address, batch):
        """The last layer's losses, and the sums of the others'."""
        rows, target = address
        layers, per_layer = len(boxes), boxes.shape[1] * boxes.shape[2]
        single = torch.promote_types(boxes.dtype, torch.float32)
        matched, wanted = boxes.flatten(0, 2)[rows].to(single).T, batch["bboxes"][target].to(single).T
        inter, union, hull = areas(matched, wanted)
        terms = {
            "class": self.class_terms(
                logits.flatten(0, 2).to(single), rows, batch["cls"][target], (inter / union).detach()
            ),
            "bbox": (matched - wanted).abs().sum(dim=0),
            "giou": 1 - inter / union + (hull - union) / hull,
        }
        of_layer = {"class": torch.arange(layers).repeat_interleave(per_layer)}
        number = max(len(rows) // layers, 1)
        losses = {}
        for name, each in terms.items():
            divisor = boxes.shape[2] if name == "class" and not self.use_fl else number
            zeros = torch.zeros(layers, dtype=single)
            added = zeros.index_add(0, of_layer.get(name, rows // per_layer), each * (self.gain[name] / divisor))
            losses[f"loss_{name}"] = added[-1]
            if self.aux_loss:
                losses[f"loss_{name}_aux"] = added[:-1].sum()
        return losses

    def class_terms(self, x, rows, classes, score):
        """One term for each query: its classes summed up."""
        y = torch.zeros_like(x, dtype=torch.bool)
        y[rows, classes] = True
        q = torch.zeros_like(x).index_put((rows, classes), score)
        if not self.use_fl:
            return (softplus(x) - q * x).sum(dim=1)
        signed = torch.where(y, x, -x)
        if self.use_vfl and len(rows):
            weight = torch.where(y, q, self.alpha * (-self.gamma * softplus(-x)).exp())
            return (weight * torch.where(y, softplus(x) - q * x, softplus(x))).sum(dim=1)
        terms = (-self.gamma * softplus(signed)).exp() * softplus(-signed)
        return (torch.where(y, self.alpha * terms, (1 - self.alpha) * terms) if self.alpha > 0 else terms).sum(dim=1)


def flat(pairs, queries):
    """The pairs of all images in one: rows counted through them."""
    rows = torch.cat([query + image * queries for image, (query, _) in enumerate(pairs)])
    return rows, torch.cat([target for _, target in pairs])
