"""Loss functions that take distributions of box sides, with the arguments of those of D-FINE in `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from detr_conformance.ports.rtdetr_form import LossFunctionPort
from detr_conformance.ports.torch_port import CaseTensors
from detr_conformance.properties.case import LossCase
from detr_conformance.reference.distributions import BINS, SIDES


class DistributionsPort(LossFunctionPort):
    """A function that takes `predicted_corners` and `initial_reference_points` besides."""

    def build(self, case: LossCase) -> Any:
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
