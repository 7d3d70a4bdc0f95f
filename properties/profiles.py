"""Profiles: the legitimate conventions that implementations of the loss follow.

The base profile, `ultralytics`, is what the reference states. Another profile says only where it differs: by
overriding steps of the reference, by its own names for the losses, and by the inputs that it leaves undefined.
A deviation is not a profile; it is a bug.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_conformance.reference import Losses, RTDETRDetectionLoss, VarifocalLoss
from detr_conformance.reference.classification import Terms, binary_cross_entropy

TERMS = ("class", "bbox", "giou")
MAIN_KEYS = frozenset(f"loss_{term}{dn}" for term in TERMS for dn in ("", "_dn"))
ALL_KEYS = MAIN_KEYS | {f"loss_{term}_aux{dn}" for term in TERMS for dn in ("", "_dn")}
"""The base profile's keys without and with auxiliary layers."""

NON_FINITE = "non-finite predictions"
NO_AREA = "boxes without area"
FREE_LAYERS = "layers other than one encoder layer and the decoder's"
UNCAPPED = "denoising more targets than num_dn"


class KeyNames:
    """The names of the losses: one key per term, auxiliary layers summed up.

    `loss_class`, `loss_bbox`, `loss_giou`; with `_aux` for the auxiliary layers; with `_dn` last for the denoising
    queries, whose keys are there, and zero, without denoising too.
    """

    def expected(self, layers: int, aux_loss: bool, denoising_layers: int) -> frozenset[str]:  # noqa: ARG002  # LayerKeyNames
        """The keys that a call must return; `denoising_layers` is 0 without denoising queries."""
        return ALL_KEYS if aux_loss else MAIN_KEYS

    def canonical(self, key: str, denoising_layers: int) -> str | None:  # noqa: ARG002  # LayerKeyNames
        """The base profile's key for the sum that this key is part of; None for a key that means nothing here."""
        return key if key in ALL_KEYS else None


class LayerKeyNames(KeyNames):
    """One key for each layer: `loss_vfl_aux_0`, …, and `loss_vfl_dn_0`, …; the last denoising layer is the main one."""

    names: Mapping[str, str] = {"vfl": "class", "bbox": "bbox", "giou": "giou"}

    def expected(self, layers: int, aux_loss: bool, denoising_layers: int) -> frozenset[str]:
        """The keys that a call must return; `denoising_layers` is 0 without denoising queries."""
        parts = ["", *(f"_aux_{layer}" for layer in range(layers - 1) if aux_loss)]
        parts += [f"_dn_{layer}" for layer in range(denoising_layers)]
        return frozenset(f"loss_{name}{part}" for name in self.names for part in parts)

    def canonical(self, key: str, denoising_layers: int) -> str | None:
        """The base profile's key for the sum that this key is part of; None for a key that means nothing here."""
        match = re.fullmatch(r"loss_([a-z]+)(?:_(aux|dn)_(\d+))?", key)
        if match is None or match[1] not in self.names:
            return None
        loss = f"loss_{self.names[match[1]]}"
        if match[2] == "dn":
            return f"{loss}_dn" if int(match[3]) == denoising_layers - 1 else f"{loss}_aux_dn"
        return f"{loss}_aux" if match[2] else loss


@dataclass(frozen=True)
class DenoisingConvention:
    """How a generator of denoising queries fills in what the idea leaves free.

    Attributes:
        logit_eps: boxes are clipped this far inside (0, 1) before the inverse sigmoid.
        padding_is_zero: padding slots hold zeros as boxes; otherwise the logits of an empty box.
        capped: an image contributes at most num_dn targets.
    """

    logit_eps: float = 1e-6
    padding_is_zero: bool = True
    capped: bool = True


@dataclass(frozen=True, eq=False)
class Profile:
    """One convention.

    Attributes:
        name: how it is selected and reported.
        differences: what differs from the base profile, one sentence each, by a short name.
        loss: the reference loss with the differing steps overridden.
        keys: names of the losses.
        denoising: choices of the denoising generator.
        left_open: inputs for which the convention defines nothing, each with the reason. Rules about them are left
            out, and no other rule draws them.
    """

    name: str
    differences: Mapping[str, str] = field(default_factory=dict)
    loss: type[RTDETRDetectionLoss] = RTDETRDetectionLoss
    keys: KeyNames = field(default_factory=KeyNames)
    denoising: DenoisingConvention = field(default_factory=DenoisingConvention)
    left_open: Mapping[str, str] = field(default_factory=dict)


class DetachedVarifocalLoss(VarifocalLoss):
    """Varifocal loss whose weight is a constant: dVFL/dx = w (p - q)."""

    def _weight_slope(self, x: Terms, y: Terms) -> Terms:
        return np.zeros_like(binary_cross_entropy(x, y))


class RTDETRConventionLoss(RTDETRDetectionLoss):
    """The loss as lyuwenyu's RT-DETR and `transformers` compute it."""

    iou_eps = 0.0

    def __init__(self, *args: object, **options: object) -> None:
        """As the reference, with these conventions handed on to the matcher and to the varifocal loss."""
        super().__init__(*args, **options)  # type: ignore[arg-type]  # passed through unread
        self.matcher.iou_eps = self.iou_eps
        self.varifocal = DetachedVarifocalLoss(self.varifocal.gamma, self.varifocal.alpha)

    def _uses_varifocal(self, num_gts: int) -> bool:  # noqa: ARG002  # asked of every profile
        return self.use_vfl

    def forward(  # type: ignore[override]  # the signature is that of RTDETRDetectionLoss
        self, preds: tuple[np.ndarray, np.ndarray], batch: Mapping[str, Any], *denoising: Any
    ) -> Losses:
        """Every loss divided by the number of targets instead of that of matched pairs.

        Denoising queries are paired by construction, and their normaliser is the number of pairs.
        """
        losses = super().forward(preds, batch, *denoising)
        pairs = sum(min(preds[0].shape[2], count) for count in batch["gt_groups"])
        if pairs == 0:
            return losses
        share = pairs / sum(batch["gt_groups"])
        return {key: loss if key.endswith("_dn") else loss * share for key, loss in losses.items()}


ULTRALYTICS = Profile("ultralytics")

RTDETR = Profile(
    "rtdetr",
    differences={
        "normaliser": "Losses are divided by the number of targets, not by that of matched pairs; the two differ "
        "where an image has more targets than queries.",
        "varifocal-weight": "The weight of the varifocal loss is a constant: no gradient flows through it.",
        "varifocal-without-targets": "A batch without targets keeps the varifocal loss.",
        "iou-eps": "Nothing is added to the union or to the enclosing area.",
        "keys": "One key per layer, loss_vfl instead of loss_class; no denoising keys without denoising queries.",
        "denoising-generator": "Boxes are clipped to [1e-5, 1 - 1e-5] before the inverse sigmoid, padding boxes are "
        "logits of an empty box, and every target is denoised, however many there are.",
    },
    loss=RTDETRConventionLoss,
    keys=LayerKeyNames(),
    denoising=DenoisingConvention(logit_eps=1e-5, padding_is_zero=False, capped=False),
    left_open={
        NON_FINITE: "Implementations raise, or replace the cost by a large number.",
        NO_AREA: "IoU is 0 / 0 there, and implementations refuse boxes turned inside out.",
        FREE_LAYERS: "The first layer is the encoder's, which has no denoising queries.",
    },
)

PROFILES = {profile.name: profile for profile in (ULTRALYTICS, RTDETR)}
