"""The losses of D-FINE in the `keras-hub` package, on Keras' torch backend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from detr_conformance.ports.torch_port import CaseTensors, TorchPort
from detr_conformance.properties.case import LossCase
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.boxes import Guard, corners_of_centre_form, overlap
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reference.normaliser import per_target
from detr_conformance.reference.options import LossConfig, MatcherConfig

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_hub.src.models.d_fine.d_fine_loss import (  # Keras reads its backend at import
    compute_box_losses,
    compute_vfl_loss,
    get_cdn_matched_indices,
    hungarian_matcher,
)

EPS = 1e-7
"""Keras' epsilon."""
_LOSS = "https://github.com/keras-team/keras-hub, keras_hub/src/models/d_fine/d_fine_loss.py"
_IOU = "https://github.com/keras-team/keras, keras/src/layers/preprocessing/image_preprocessing/bounding_boxes/iou.py"


def ciou(pred: Any, wanted: np.ndarray, guard: Guard) -> Any:  # noqa: ARG001  # it has its own eps
    """IoU - d^2 / diagonal^2 - v^2 / (1 - IoU + v + eps), eps in every height and twice in the union.

    Reference: Zheng et al., Distance-IoU Loss, arXiv 1911.08287, section 4.
    """
    a, b = corners_of_centre_form(pred), corners_of_centre_form(wanted)
    taller = np.array([0.0, EPS])
    size_a, size_b = a.size + taller, b.size + taller
    areas = overlap(a, b, size_a, size_b, Guard(2 * EPS))
    apart = np.sum(((b.low + b.high - a.low - a.high) / 2) ** 2, axis=-1)
    diagonal = np.sum(areas.around**2, axis=-1) + EPS
    angle_a, angle_b = (np.arctan(size[..., 0] / size[..., 1]) for size in (size_a, size_b))
    v = 4 / np.pi**2 * (angle_b - angle_a) ** 2
    return areas.iou - apart / diagonal - v * v / (v - areas.iou + (1 + EPS))


def ciou_term(boxes: Any, wanted: np.ndarray, guard: Guard) -> Any:
    """1 - CIoU(b, b')."""
    return 1.0 - ciou(boxes, wanted, guard)


def options_of_the_cost(config: LossConfig) -> MatcherConfig:
    """Gains class 2, bbox 5, giou 2, with alpha and gamma of the loss."""
    return MatcherConfig(alpha=config.alpha, gamma=config.gamma)


KERAS_DFINE = differs(
    FAMILY["rtdetr"],
    "keras-dfine",
    class_terms=(
        {"varifocal": FAMILY["rtdetr"].class_terms["varifocal"]},
        "Classification is the varifocal loss, its weight a constant.",
        _LOSS,
    ),
    normaliser=(
        dict.fromkeys(("varifocal", "bbox", "giou"), per_target),
        "Every loss is divided by the number of targets.",
        _LOSS,
    ),
    guard=(Guard(EPS), "Keras' epsilon is added to the union.", _IOU),
    box_terms=(
        {**FAMILY["rtdetr"].box_terms, "giou": ciou_term},
        "CIoU takes the place of GIoU.",
        _LOSS,
    ),
    matcher__overlap=(ciou, "CIoU takes the place of GIoU in the matching cost too.", _LOSS),
    matcher__configured=(options_of_the_cost, "Alpha and gamma of the varifocal loss are those of the cost.", _LOSS),
    keys=(
        LayerKeys({"varifocal": ("vfl",)}, box_names={"bbox": "bbox", "giou": "ciou"}, encoder="loss_{term}_enc"),
        "loss_vfl, loss_bbox and loss_ciou; those of layer i end in _aux_i, those of the encoder in _enc.",
        "https://github.com/keras-team/keras-hub, keras_hub/src/models/d_fine/d_fine_object_detector.py",
    ),
)
"""D-FINE in keras-hub, without the losses of distributions. It does not unite matchings."""


class KerasDFinePort(TorchPort):
    """The functions that `DFineObjectDetector.compute_loss` is made of, called as it calls them.

    Layer 0 of a case is the encoder's.
    """

    name = "keras-dfine"
    profile: str | LossSpec = KERAS_DFINE
    capabilities = frozenset({"varifocal", "no_aux", "denoising", "gradients", "one_object"})
    dtypes = frozenset({"float32"})

    def build(self, case: LossCase) -> dict[str, float]:
        """The weights, by the names of the losses; there is no loss object."""
        gain = case.config.loss_gain
        return {"loss_vfl": gain["class"], "loss_bbox": gain["bbox"], "loss_ciou": gain["giou"]}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Every layer by the functions of the package; labels and boxes of all images in one row."""
        step = _Step(loss, case, tensors)
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        losses = step.ordinary("", boxes[-1], logits[-1])
        if case.config.aux_loss:
            for place in range(case.layers - 2):
                losses |= step.ordinary(f"_aux_{place}", boxes[1 + place], logits[1 + place])
            losses |= step.ordinary("_enc", boxes[0], logits[0])
        return losses | (step.denoising() if case.denoising is not None else {})


class _Step:
    """What the layers of one call share."""

    def __init__(self, weights: Mapping[str, float], case: LossCase, tensors: CaseTensors) -> None:
        self.weights, self.case, self.tensors = weights, case, tensors
        self.targets = [{"labels": tensors.gt_cls, "boxes": tensors.gt_bboxes}]
        self.number = torch.tensor(float(max(case.targets, 1)))

    def ordinary(self, suffix: str, boxes: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses of a layer, with its own matching."""
        outputs = {"logits": logits, "pred_boxes": boxes.clamp(0, 1)}
        config, cost = self.case.config, self.case.matcher.cost_gain
        pairs = hungarian_matcher(
            outputs,
            self.targets,
            torch.tensor(self.case.gt_groups, dtype=torch.int32),
            True,
            config.alpha,
            config.gamma,
            cost["bbox"],
            cost["class"],
            cost["giou"],
            SimpleNamespace(num_queries=self.case.queries),
        )
        return self.losses(suffix, outputs, pairs, self.number)

    def denoising(self) -> dict[str, torch.Tensor]:
        """Those of all layers of denoising queries."""
        made, predictions = self.case.denoising, self.tensors.predictions
        assert made is not None  # noqa: S101  # the caller has looked
        slots = torch.nn.utils.rnn.pad_sequence(list(self.tensors.pos_idx), batch_first=True, padding_value=-1)
        pairs = get_cdn_matched_indices({"dn_positive_idx": slots})
        losses: dict[str, torch.Tensor] = {}
        for layer, (boxes, logits) in enumerate(zip(predictions["dn_bboxes"], predictions["dn_scores"], strict=True)):
            outputs = {"logits": logits, "pred_boxes": boxes.clamp(0, 1)}
            losses |= self.losses(f"_dn_{layer}", outputs, pairs, self.number * made.num_group)
        return losses

    def losses(
        self, suffix: str, outputs: Mapping[str, torch.Tensor], pairs: Sequence[Any], number: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The weighted losses of a layer."""
        config = self.case.config
        losses = compute_vfl_loss(outputs, self.targets, pairs, number, config.nc, config.alpha, config.gamma)
        losses |= compute_box_losses(outputs, self.targets, pairs, number)
        return {f"{name}{suffix}": loss * self.weights[name] for name, loss in losses.items()}


def port() -> KerasDFinePort:
    """The installed `keras-hub` package."""
    return KerasDFinePort()
