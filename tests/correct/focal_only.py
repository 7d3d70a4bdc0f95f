"""A small port: the focal loss alone, its values in float32, and nothing that denoising needs."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

from detr_conformance.ports.torch_port import tensors_of
from detr_conformance.properties.port import LossResult

from .plain_boxes import iou_and_giou


class FocalOnlyPort:
    """Deformable DETR's losses, summed over layers; only what a validation run logs, without gradients."""

    name = "focal-only"
    profile = "ultralytics"
    capabilities = frozenset({"focal"})
    dtypes = frozenset({"float32"})

    @torch.no_grad()
    def loss(self, case):
        tensors = tensors_of(case)
        targets = tensors.gt_bboxes, tensors.gt_cls, case.gt_groups
        predictions = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        layers = [one_layer(*layer, *targets, case.config) for layer in zip(*predictions, strict=True)]
        losses = dict(layers[-1])
        for key in layers[-1]:
            losses[f"{key}_aux"] = sum((each[key] for each in layers[:-1]), start=torch.zeros(()))
        return LossResult({key: loss.numpy() for key, loss in losses.items()}, dtypes=dict.fromkeys(losses, "float32"))


def one_layer(boxes, logits, gt_bboxes, gt_cls, gt_groups, config):
    sums, number = torch.zeros(3), 0
    images = zip(boxes, logits, gt_bboxes.split(gt_groups), gt_cls.split(gt_groups), strict=True)
    for of_boxes, of_logits, own, classes in images:
        queries, targets = linear_sum_assignment(costs(of_boxes, of_logits, own, classes).numpy())
        matched, wanted = of_boxes[queries], own[targets]
        signs = -torch.ones_like(of_logits)
        signs[queries, classes[targets]] = 1
        wrong = torch.sigmoid(-signs * of_logits)
        balance = torch.where(signs > 0, config.alpha, 1 - config.alpha) if config.alpha > 0 else 1
        sums[0] += (balance * wrong**config.gamma * torch.nn.functional.softplus(-signs * of_logits)).sum()
        sums[1] += (matched - wanted).abs().sum()
        sums[2] += (1 - iou_and_giou(matched, wanted)[1]).sum()
        number += len(queries)
    names = zip(("class", "bbox", "giou"), sums, strict=True)
    return {f"loss_{name}": config.loss_gain[name] * each / max(number, 1) for name, each in names}


def costs(boxes, logits, wanted, classes):
    p = logits[:, classes].sigmoid()
    of_class = 0.75 * p**2 * (1 - p + 1e-8).log() - 0.25 * (1 - p) ** 2 * (p + 1e-8).log()
    giou = iou_and_giou(boxes[:, None], wanted)[1]
    cost = 2 * of_class + 5 * torch.cdist(boxes, wanted, p=1) + 2 * (1 - giou)
    return torch.where(cost.isfinite(), cost, 0)
