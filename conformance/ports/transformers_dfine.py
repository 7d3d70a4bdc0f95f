"""The losses of D-FINE and DEIMv2 in the `transformers` package, through its public loss functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Deimv2Config, DFineConfig, PretrainedConfig
from transformers.loss.loss_d_fine import DFineForObjectDetectionLoss
from transformers.loss.loss_deimv2 import Deimv2ForObjectDetectionLoss
from transformers.models.d_fine import modeling_d_fine
from transformers.models.deimv2 import modeling_deimv2

from detr_conformance.ports.torch_port import CaseTensors
from detr_conformance.ports.transformers_rtdetr import TransformersRTDetrPort
from detr_conformance.properties.case import LossCase
from detr_conformance.reference import FAMILY
from detr_conformance.reference.base_spec import differs

TRANSFORMERS_DEIM = differs(
    FAMILY["deim"],
    "transformers-deim",
    denoising__generator__moved=(
        FAMILY["rtdetr"].denoising.generator.moved,
        "A size below 0 stays so, as in RT-DETR.",
        "https://github.com/huggingface/transformers, src/transformers/models/deimv2/modeling_deimv2.py",
    ),
)
"""DEIM with RT-DETR's denoising queries."""


class TransformersDFinePort(TransformersRTDetrPort):
    """`DFineForObjectDetectionLoss`: RT-DETR's losses and two on distributions of box sides, which are left out here.

    The package does not unite the matchings of the layers, as D-FINE's own code does; so it is held to `rtdetr`.
    """

    name = "transformers-dfine"
    dtypes = frozenset({"float32"})  # its loss on distributions fails on float64
    config_class = DFineConfig
    loss_function = staticmethod(DFineForObjectDetectionLoss)
    generator = staticmethod(modeling_d_fine.get_contrastive_denoising_training_group)

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """The losses that the family shares."""
        losses = super().call(loss, case, tensors)
        return {key: each for key, each in losses.items() if not key.startswith(("loss_fgl", "loss_ddf"))}

    def more(self, config: PretrainedConfig, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Distributions of the sides, all alike, and the boxes that they start from."""
        bins = torch.zeros((*boxes.shape[:-1], 4 * (config.max_num_bins + 1)), dtype=boxes.dtype)
        return {"predicted_corners": bins, "initial_reference_points": torch.full_like(boxes, 0.5)}


class TransformersDeimV2Port(TransformersDFinePort):
    """`Deimv2ForObjectDetectionLoss`, which unites the matchings."""

    name = "transformers-deimv2"
    profile = TRANSFORMERS_DEIM
    capabilities = TransformersRTDetrPort.capabilities - {"varifocal", "no_aux"} | {"mal"}
    config_class = Deimv2Config
    loss_function = staticmethod(Deimv2ForObjectDetectionLoss)
    generator = staticmethod(modeling_deimv2.get_contrastive_denoising_training_group)
    class_weight = "weight_loss_mal"


def port() -> TransformersDFinePort:
    """D-FINE of the installed `transformers` package."""
    return TransformersDFinePort()


def deimv2_port() -> TransformersDeimV2Port:
    """DEIMv2 of the installed `transformers` package."""
    return TransformersDeimV2Port()
