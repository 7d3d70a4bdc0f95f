"""A stand-in port that leaves PyTorch in another state; the other hostile ports start quickly, without PyTorch."""

from __future__ import annotations

import torch

from detr_conformance.ports.reference_port import ReferencePort


class DoubleByDefault(ReferencePort):
    """Has PyTorch make arrays of float64 from then on."""

    def loss(self, case):
        torch.set_default_dtype(torch.float64)
        return super().loss(case)


double_by_default = DoubleByDefault(name="double by default")
