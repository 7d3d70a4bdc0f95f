"""A training step of RT-DETR for the faces: layers of predictions, targets of images, and the losses by autograd."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 5
QUERIES = 9
COUNTS = (3, 0, 2)
GROUPS = 2
SLOTS = 2 * GROUPS * max(COUNTS)
LAYERS = 3


def config(**options):
    """A configuration with the attributes that `transformers` reads."""
    given = {
        "num_labels": CLASSES,
        "auxiliary_loss": True,
        "focal_loss_alpha": 0.75,
        "focal_loss_gamma": 2.0,
        "weight_loss_vfl": 1.0,
        "weight_loss_bbox": 5.0,
        "weight_loss_giou": 2.0,
        "use_focal_loss": True,
        "matcher_alpha": 0.25,
        "matcher_gamma": 2.0,
        "matcher_class_cost": 2.0,
        "matcher_bbox_cost": 5.0,
        "matcher_giou_cost": 2.0,
    }
    return SimpleNamespace(**given | options)


def layer(generator: torch.Generator, queries: int, dtype: torch.dtype, classes: int = CLASSES) -> dict[str, Tensor]:
    """Logits and boxes of all images."""
    shape = len(COUNTS), queries
    centres, sizes = (torch.rand(*shape, 2, generator=generator, dtype=dtype) for _ in range(2))
    logits = torch.randn(*shape, classes, generator=generator, dtype=dtype)
    boxes = torch.cat([0.2 + 0.6 * centres, 0.05 + 0.3 * sizes], dim=-1)
    return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes.requires_grad_()}


@dataclass
class Outputs:
    """What a model hands over: dictionaries of layers, as in the RT-DETR repositories."""

    outputs: dict
    targets: list[dict[str, Tensor]]

    @property
    def leaves(self) -> list[Tensor]:
        """All predictions: of the last layer, of the others, of denoising queries and of the encoder."""
        lists = [self.outputs.get(key, []) for key in ("aux_outputs", "dn_aux_outputs", "enc_aux_outputs")]
        layers = [self.outputs, *(each for own in lists for each in own)]
        return [each[key] for each in layers for key in ("pred_logits", "pred_boxes")]

    def for_transformers(self) -> tuple[tuple, dict]:
        """Arguments of `rt_detr_loss`, but the configuration; denoising queries in front."""
        given, decoder = self.outputs, [*self.outputs["aux_outputs"], self.outputs]
        stacked = {key: torch.stack([each[key] for each in decoder], dim=1) for key in ("pred_logits", "pred_boxes")}
        meta = given.get("dn_meta")
        if meta is not None:
            for key, own in stacked.items():
                denoising = torch.stack([each[key] for each in given["dn_aux_outputs"]], dim=1)
                stacked[key] = torch.cat([denoising, own], dim=2)
        logits, boxes = stacked["pred_logits"], stacked["pred_boxes"]
        labels = [{"class_labels": each["labels"], "boxes": each["boxes"]} for each in self.targets]
        [encoder] = given["enc_aux_outputs"]
        more = {
            "outputs_class": logits,
            "outputs_coord": boxes,
            "enc_topk_logits": encoder["pred_logits"],
            "enc_topk_bboxes": encoder["pred_boxes"],
            "denoising_meta_values": meta,
        }
        return (logits[:, -1], labels, logits.device, boxes[:, -1]), more


def outputs(seed: int = 0, *, denoising: bool = True, dtype: torch.dtype = torch.float64) -> Outputs:
    """Random predictions of three decoder layers and the encoder's."""
    generator = torch.Generator().manual_seed(seed)
    given = layer(generator, QUERIES, dtype)
    given |= {"aux_outputs": [layer(generator, QUERIES, dtype) for _ in range(LAYERS - 1)]}
    given |= {"enc_aux_outputs": [layer(generator, QUERIES, dtype)]}
    if denoising:
        groups = [torch.arange(count) + 2 * max(COUNTS) * group for count in COUNTS for group in range(GROUPS)]
        slots = [torch.cat(groups[start : start + GROUPS]) for start in range(0, len(groups), GROUPS)]
        meta = {"dn_positive_idx": slots, "dn_num_group": GROUPS, "dn_num_split": [SLOTS, QUERIES]}
        given |= {"dn_aux_outputs": [layer(generator, SLOTS, dtype) for _ in range(LAYERS)], "dn_meta": meta}
    targets = [
        {
            "labels": torch.randint(CLASSES, (count,), generator=generator),
            "boxes": 0.3 + 0.3 * torch.rand(count, 4, generator=generator, dtype=dtype),
        }
        for count in COUNTS
    ]
    return Outputs(given, targets)


def by_autograd(layer, targets, indices, count, *, kind="vfl", alpha=0.75, gamma=2.0, eps=0.0):
    """The three losses of a layer without weights, straight from their formulas.

    Args:
        layer: its logits and boxes.
        targets: for each image classes and boxes.
        indices: for each image queries and their targets.
        count: what the losses are divided by.
        kind: of the classification loss.
        alpha: its balance.
        gamma: its exponent.
        eps: added to areas.
    """
    logits, boxes = layer["pred_logits"], layer["pred_boxes"]
    y, q = torch.zeros_like(logits), torch.zeros_like(logits)
    distance = apart = logits.new_zeros(())
    for image, (queries, chosen) in enumerate(indices):
        own, wanted = boxes[image, queries], targets[image]["boxes"][chosen]
        iou, giou = overlaps(own, wanted, eps)
        distance, apart = distance + (own - wanted).abs().sum(), apart + (1 - giou).sum()
        classes = targets[image]["labels"][chosen]
        y[image, queries, classes] = 1.0
        q[image, queries, classes] = iou.detach()
    p = logits.sigmoid()
    if kind == "focal":
        p_t, a_t = p * y + (1 - p) * (1 - y), alpha * y + (1 - alpha) * (1 - y)
        weight, wanted = (a_t if alpha >= 0 else 1.0) * (1 - p_t) ** gamma, y
    elif kind == "bce":
        weight, wanted = torch.ones_like(p), y
    elif kind == "mal":
        weight, wanted = p.detach() ** gamma * (1 - y) + y, q**gamma * y
    else:
        weight, wanted = alpha * p.detach() ** gamma * (1 - y) + q, q
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (weight * entropy).sum() / count, distance / count, apart / count


def overlaps(own: Tensor, wanted: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """IoU and GIoU of boxes in centre form, row by row."""
    (low, high), (its_low, its_high) = ((b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2) for b in (own, wanted))
    inter = (torch.minimum(high, its_high) - torch.maximum(low, its_low)).clamp(min=0).prod(-1)
    union = own[:, 2:].prod(-1) + wanted[:, 2:].prod(-1) - inter + eps
    hull = (torch.maximum(high, its_high) - torch.minimum(low, its_low)).prod(-1) + eps
    return inter / union, inter / union - (hull - union) / hull
