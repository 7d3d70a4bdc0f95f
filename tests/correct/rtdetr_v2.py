"""RT-DETRv2's criterion: a table of losses, keys of the encoder's own, weights applied last, and all in float32."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from detr_conformance.ports.torch_port import TorchPort
from detr_conformance.properties.port import DenoisingGroup

from .denoising_one_by_one import denoising_group
from .rtdetr_layers import EPS, Matcher, RTDETRLayersPort, generalised_iou, outputs, pairs_of_groups, within_images
from .rtdetr_layers import targets as list_of_targets

KINDS = {"varifocal": "vfl", "focal": "focal", "bce": "bce"}
WEIGHTS = {"vfl": "class", "focal": "class", "bce": "class", "bbox": "bbox", "giou": "giou"}


class SetCriterion:
    """Sums of one output after the other, each of one classification loss and of the boxes."""

    def __init__(self, config):
        self.config, self.matcher = config, Matcher({"class": 2.0, "bbox": 5.0, "giou": 2.0})
        self.classify = {"vfl": self.loss_vfl, "focal": self.loss_focal, "bce": self.loss_bce}
        self.kind = KINDS[config.classification]

    def __call__(self, output, targets):
        losses, number = {}, max(sum(len(each["labels"]) for each in targets), 1)
        names = [*(f"_aux_{place}" for place in range(len(output["aux_outputs"]))), *["_enc_0"] * output["has_encoder"]]
        auxiliary = [*output["aux_outputs"], *output["enc_outputs"]]
        own = [self.matcher(each, targets) for each in auxiliary]
        if self.config.use_uni_match and own:  # counted with the encoder first
            own = [[own[-1], *own[:-1]][self.config.uni_match_ind]] * len(own)
        parts = [("", output, self.matcher(output, targets), number)]
        parts += zip(names, auxiliary, own, [number] * len(own), strict=True)
        for place, each in enumerate(output["dn_outputs"]):
            pairs = output["dn_pairs"]
            parts.append((f"_dn_{place}", each, pairs, max(sum(len(slots) for slots, _ in pairs), 1)))
        for suffix, each, pairs, divisor in parts:
            for name, total in self.of_output(each, targets, pairs).items():
                losses[f"loss_{name}{suffix}"] = total / divisor * self.config.loss_gain[WEIGHTS[name]]
        return losses

    def of_output(self, output, targets, pairs):
        """Sums over one layer."""
        images = [torch.full_like(slots, image) for image, (slots, _) in enumerate(pairs)]
        where = torch.cat(images), torch.cat([slots for slots, _ in pairs])
        labels, boxes = (
            torch.cat([each[name][own] for each, (_, own) in zip(targets, pairs, strict=True)])
            for name in ("labels", "boxes")
        )
        matched = output["boxes"][where]
        iou, giou = generalised_iou(matched, boxes)
        sums = {"bbox": (matched - boxes).abs().sum(), "giou": (1 - giou).sum()}
        return {self.kind: self.classify[self.kind](output["logits"], (*where, labels), iou.detach())} | sums

    def loss_bce(self, logits, positive, _iou):
        """-log p at the positives, -log(1 - p) elsewhere."""
        background = logsigmoid(-logits)
        return -background.sum() + (background - logsigmoid(logits))[positive].sum()

    def loss_focal(self, logits, positive, _iou):
        alpha, gamma = self.config.alpha, self.config.gamma
        right, wrong = (alpha, 1 - alpha) if alpha > 0 else (1.0, 1.0)
        background, foreground = (
            -weight * (gamma * logsigmoid(-truth)).exp() * logsigmoid(truth)
            for weight, truth in ((wrong, -logits), (right, logits))
        )
        return background.masked_fill(self.mask(logits, positive), 0).sum() + foreground[positive].sum()

    def loss_vfl(self, logits, positive, iou):
        weight = self.config.alpha * logits.detach().sigmoid() ** self.config.gamma
        background = weight * logsigmoid(-logits)
        entropy = iou * logsigmoid(logits[positive]) + (1 - iou) * logsigmoid(-logits[positive])
        return -background.masked_fill(self.mask(logits, positive), 0).sum() - (iou * entropy).sum()

    def mask(self, logits, positive):
        mask = torch.zeros(logits.shape, dtype=torch.bool)
        mask[positive] = True
        return mask


class RTDETRv2Port(TorchPort):
    """Under the profile `rtdetr`: `_enc_0` for the encoder's layer, and dummy queries where nothing is denoised."""

    name = "rtdetr-v2"
    profile = "rtdetr"
    capabilities = RTDETRLayersPort.capabilities - {"ranks"}
    dtypes = frozenset({"float32"})
    match = RTDETRLayersPort.match
    denoising_indices = RTDETRLayersPort.denoising_indices

    def build(self, case):
        return SetCriterion(case.config)

    def call(self, loss, case, tensors):
        encoder, *decoder = outputs(tensors.predictions["pred_scores"], tensors.predictions["pred_bboxes"])
        has_aux = case.config.aux_loss
        output = decoder[-1] | {"dn_outputs": [], "has_encoder": has_aux, "enc_outputs": [encoder] * has_aux}
        output["aux_outputs"] = decoder[:-1] if has_aux else []
        if case.denoising is not None:
            output["dn_outputs"] = outputs(tensors.predictions["dn_scores"], tensors.predictions["dn_bboxes"])
            output["dn_pairs"] = within_images(case, pairs_of_groups(case, tensors))
        return loss(output, list_of_targets(case, tensors))

    def denoising_group(self, case):
        empty = math.log(EPS / (1 - EPS))
        if case.targets or not case.generator.training or not case.generator.num_dn:
            return denoising_group(case, EPS, capped=False, padding=empty)
        return dummy_queries(case, empty)


def dummy_queries(case, empty):
    """One query for each image that no target was made into, so that no rank has fewer losses than another."""
    none = [np.zeros(0, dtype=np.int64)] * case.images
    blocked = np.zeros((1 + case.queries, 1 + case.queries), dtype=bool)
    blocked[1:, 0] = True
    labels, boxes = np.zeros((case.images, 1, case.config.nc)), np.full((case.images, 1, 4), empty)
    return DenoisingGroup(labels, boxes, blocked, none, none, 1, [1, case.queries])
