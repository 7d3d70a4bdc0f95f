"""The losses of D-FINE and DEIMv2 in the `transformers` package, through its public loss functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from detr_conformance.reference.distribution_terms import DDF, FGL, Distillation, of_decoder, of_own_queries, of_taught
from detr_conformance.reference.distributions import BINS, SIDES
from detr_conformance.reference.layers import Stack, Weights
from detr_conformance.reference.normaliser import per_target


def but_the_main_layer(stack: Stack) -> Weights:
    """The layers of the decoder, of ordinary queries without the last."""
    return of_decoder(stack) if stack.is_denoising else of_taught(stack)


LOCALISATION = replace(FGL, layers=but_the_main_layer)
DISTILLATION = replace(DDF, total=Distillation(counts=of_own_queries))
DISTRIBUTIONS = (
    "The main layer has no localisation loss; in distillation denoising queries are counted for themselves.",
    "https://github.com/huggingface/transformers, src/transformers/loss/loss_d_fine.py",
)

TRANSFORMERS_DFINE = differs(
    FAMILY["rtdetr"],
    "transformers-dfine",
    extra_terms=({"fgl": replace(LOCALISATION, normaliser=per_target), "ddf": DISTILLATION}, *DISTRIBUTIONS),
)
"""RT-DETR's losses, without a union of matchings, and the two of distributions."""

TRANSFORMERS_DEIM = differs(
    FAMILY["deim"],
    "transformers-deim",
    extra_terms=({"fgl": LOCALISATION, "ddf": DISTILLATION}, *DISTRIBUTIONS),
    denoising__generator__moved=(
        FAMILY["rtdetr"].denoising.generator.moved,
        "A size below 0 stays so, as in RT-DETR.",
        "https://github.com/huggingface/transformers, src/transformers/models/deimv2/modeling_deimv2.py",
    ),
)
"""DEIM with RT-DETR's denoising queries."""


class TransformersDFinePort(TransformersRTDetrPort):
    """`DFineForObjectDetectionLoss`: RT-DETR's losses and two on distributions of box sides.

    The package does not unite the matchings of the layers, as D-FINE's own code does.
    """

    name = "transformers-dfine"
    profile = TRANSFORMERS_DFINE
    capabilities = TransformersRTDetrPort.capabilities | {"distributions"}
    dtypes = frozenset({"float32"})  # its loss on distributions fails on float64
    config_class = DFineConfig
    loss_function = staticmethod(DFineForObjectDetectionLoss)
    generator = staticmethod(modeling_d_fine.get_contrastive_denoising_training_group)

    def build(self, case: LossCase) -> PretrainedConfig:
        """With the gains of the losses of distributions."""
        config, gain = super().build(case), case.config.loss_gain
        for term in ("fgl", "ddf"):
            setattr(config, f"weight_loss_{term}", gain.get(term, 1.0))
        return config

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Without distributions only the losses that the family shares."""
        losses, extra = super().call(loss, case, tensors), ("loss_fgl", "loss_ddf")
        has_them = case.distributions is not None
        return {key: each for key, each in losses.items() if has_them or not key.startswith(extra)}

    def more(self, case: LossCase, tensors: CaseTensors, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Distributions of the sides, and the boxes that they start from; where a case has none, any will do."""
        if case.distributions is None:
            corners, references = boxes.new_zeros((*boxes.shape[:-1], SIDES * BINS)), torch.full_like(boxes, 0.5)
        else:
            corners, references = _distributions(case, tensors)
        return {"predicted_corners": corners, "initial_reference_points": references.expand(boxes.shape)}


def _distributions(case: LossCase, tensors: CaseTensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of bins and reference boxes, batch first, denoising queries in front."""
    corners, references = tensors.predictions["pred_corners"][1:], tensors.constants["references"][None]
    if case.denoising is not None:
        corners = torch.cat([tensors.predictions["dn_corners"], corners], dim=2)
        references = torch.cat([tensors.constants["denoising_references"][None], references], dim=2)
    return corners.transpose(0, 1).flatten(-2), references.transpose(0, 1)


class TransformersDeimV2Port(TransformersDFinePort):
    """`Deimv2ForObjectDetectionLoss`, which unites the matchings."""

    name = "transformers-deimv2"
    profile = TRANSFORMERS_DEIM
    capabilities = TransformersDFinePort.capabilities - {"varifocal", "no_aux"} | {"mal"}
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
