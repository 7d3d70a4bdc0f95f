"""The conventions of RT-DETR's own code: a list of targets, a criterion that names one loss for each layer."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import binary_cross_entropy_with_logits

from detr_conformance.ports.torch_port import TorchPort, arrays_of, tensors_of

from .criteria import over_ranks
from .denoising_one_by_one import denoising_group

EPS = 1e-5
"""Of the inverse sigmoid."""
CLASS_KEYS = {"varifocal": "vfl", "focal": "focal", "bce": "bce"}


class Criterion:
    """Losses of a list of outputs, one for each layer, all of them alike."""

    def __init__(self, config, matcher):
        self.config, self.matcher = config, matcher

    def __call__(self, outputs, targets):
        """`outputs` has the main layer, and lists of auxiliary and of denoising ones; targets are a list of images."""
        number = max(over_ranks(sum(len(each["labels"]) for each in targets)), 1)
        losses = self.named("", outputs, targets, self.matcher(outputs, targets), number)
        indices = [self.matcher(each, targets) for each in outputs["aux_outputs"]]
        if self.config.use_uni_match and indices:
            indices = [indices[self.config.uni_match_ind]] * len(indices)
        for layer, (output, own) in enumerate(zip(outputs["aux_outputs"], indices, strict=True)):
            losses |= self.named(f"_aux_{layer}", output, targets, own, number)
        meta = outputs["dn_meta"] or {"indices": [], "groups": 1}
        of_group = over_ranks(sum(len(own) for _, own in meta["indices"]) / meta["groups"])
        for layer, output in enumerate(outputs["dn_outputs"]):
            number = max(of_group, 1) * meta["groups"]
            losses |= self.named(f"_dn_{layer}", output, targets, meta["indices"], number)
        return losses

    def named(self, suffix, output, targets, indices, number):
        gain = self.config.loss_gain
        source, wanted = self.pairs(output["boxes"], targets, indices)
        iou, giou = generalised_iou(source, wanted)
        labels = torch.cat([each["labels"][own] for each, (_, own) in zip(targets, indices, strict=True)])
        losses = {
            CLASS_KEYS[self.config.classification]: gain["class"]
            * self.class_loss(output["logits"], indices, labels, iou.detach())
            / number,
            "bbox": gain["bbox"] * torch.nn.functional.l1_loss(source, wanted, reduction="sum") / number,
            "giou": gain["giou"] * (1 - giou).sum() / number,
        }
        return {f"loss_{name}{suffix}": loss for name, loss in losses.items()}

    def pairs(self, boxes, targets, indices):
        source = torch.cat([own[queries] for own, (queries, _) in zip(boxes, indices, strict=True)])
        wanted = torch.cat([each["boxes"][own] for each, (_, own) in zip(targets, indices, strict=True)])
        return precise(source), wanted

    def class_loss(self, logits, indices, labels, iou):
        """Varifocal with a constant weight, focal, or cross-entropy with the labels."""
        logits, config = precise(logits), self.config
        image = torch.cat([torch.full_like(queries, image) for image, (queries, _) in enumerate(indices)])
        place = image, torch.cat([queries for queries, _ in indices])
        classes = torch.full(logits.shape[:2], config.nc)
        classes[place] = labels
        target = torch.nn.functional.one_hot(classes, config.nc + 1)[..., :-1].to(logits.dtype)
        if config.classification == "bce":
            return binary_cross_entropy_with_logits(logits, target, reduction="sum")
        if config.classification == "focal":
            return self.focal(logits, target)
        score = torch.zeros(logits.shape[:2], dtype=logits.dtype).index_put(place, iou)[..., None] * target
        weight = config.alpha * logits.detach().sigmoid() ** config.gamma * (1 - target) + score
        return binary_cross_entropy_with_logits(logits, score, weight=weight, reduction="sum")

    def focal(self, logits, target):
        gamma, alpha = self.config.gamma, self.config.alpha
        right = torch.where(target > 0, logits, -logits)
        entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
        terms = (torch.nn.functional.logsigmoid(-right) * gamma).exp() * entropy
        return ((alpha * target + (1 - alpha) * (1 - target)) * terms if alpha > 0 else terms).sum()


class Matcher:
    """Costs of the batch's queries and all targets at once, split by image; targets count within theirs."""

    def __init__(self, cost_gain, use_fl=True, alpha=0.25, gamma=2.0):
        self.cost_gain, self.use_fl, self.alpha, self.gamma = cost_gain, use_fl, alpha, gamma

    @torch.no_grad()
    def __call__(self, outputs, targets):
        logits, boxes = precise(outputs["logits"]), precise(outputs["boxes"])
        labels, wanted = (torch.cat([each[name] for each in targets]) for name in ("labels", "boxes"))
        _, giou = generalised_iou(boxes.flatten(0, 1)[:, None], wanted[None])
        distance = torch.cdist(boxes.flatten(0, 1), wanted, p=1)
        cost = self.cost_gain["class"] * self.of_class(logits.flatten(0, 1))[:, labels]
        cost = cost + self.cost_gain["bbox"] * distance - self.cost_gain["giou"] * giou
        blocks = cost.unflatten(0, logits.shape[:2]).split([len(each["labels"]) for each in targets], dim=-1)
        solved = (linear_sum_assignment(block[image].numpy()) for image, block in enumerate(blocks))
        return [tuple(map(torch.as_tensor, pair)) for pair in solved]

    def of_class(self, logits):
        if not self.use_fl:
            return -logits.softmax(dim=-1)
        p = logits.sigmoid()
        wrong = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        return self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log() - wrong


class RTDETRLayersPort(TorchPort):
    """Under the profile `rtdetr`."""

    name = "rtdetr-layers"
    profile = "rtdetr"
    capabilities = frozenset(
        {"varifocal", "focal", "bce", "uni_match", "no_aux", "denoising", "denoising_subset", "gradients", "one_object"}
        | {"concurrent", "match", "matcher_options", "denoising_indices", "denoising_group", "ranks"}
    )
    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def build(self, case):
        return Criterion(case.config, Matcher({"class": 2, "bbox": 5, "giou": 2}))

    def call(self, loss, case, tensors):
        layers = outputs(tensors.predictions["pred_scores"], tensors.predictions["pred_bboxes"])
        auxiliary = layers[:-1] if loss.config.aux_loss else []
        made = {"dn_outputs": [], "dn_meta": None}
        if case.denoising is not None:
            made["dn_outputs"] = outputs(tensors.predictions["dn_scores"], tensors.predictions["dn_bboxes"])
            indices = within_images(case, pairs_of_groups(case, tensors))
            made["dn_meta"] = {"indices": indices, "groups": case.denoising.num_group}
        return loss({**layers[-1], "aux_outputs": auxiliary, **made}, targets(case, tensors))

    def match(self, case):
        tensors = tensors_of(case)
        options = case.matcher
        matcher = Matcher(options.cost_gain, options.use_fl, options.alpha, options.gamma)
        layers = outputs(tensors.predictions["pred_scores"], tensors.predictions["pred_bboxes"])
        firsts = [case.of_image(image).start for image in range(case.images)]
        return [
            [arrays_of((query, own + first)) for (query, own), first in zip(pairs, firsts, strict=True)]
            for pairs in (matcher(layer, targets(case, tensors)) for layer in layers)
        ]

    def denoising_indices(self, case):
        return [arrays_of(pair) for pair in pairs_of_groups(case, tensors_of(case))]

    def denoising_group(self, case):
        return denoising_group(case, EPS, capped=False, padding=math.log(EPS / (1 - EPS)))


def outputs(logits, boxes):
    return [{"logits": each, "boxes": own} for each, own in zip(logits, boxes, strict=True)]


def targets(case, tensors):
    own = [case.of_image(image) for image in range(case.images)]
    return [{"labels": tensors.gt_cls[part], "boxes": tensors.gt_bboxes[part]} for part in own]


def pairs_of_groups(case, tensors):
    groups = case.denoising.num_group
    return [(slots, own.tile(groups)) for slots, own in zip(tensors.pos_idx, tensors.gt_idx, strict=True)]


def within_images(case, pairs):
    return [(slots, own - case.of_image(image).start) for image, (slots, own) in enumerate(pairs)]


def generalised_iou(a, b):
    """IoU and GIoU of broadcast boxes, by corners and without eps."""
    (a_low, a_high), (b_low, b_high) = ((c - s / 2, c + s / 2) for c, s in (each.split(2, dim=-1) for each in (a, b)))
    inter = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(dim=-1)
    union = (a_high - a_low).prod(dim=-1) + (b_high - b_low).prod(dim=-1) - inter
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(dim=-1)
    return inter / union, inter / union - (hull - union) / hull


def precise(tensor):
    return tensor if tensor.dtype == torch.float64 else tensor.float()
