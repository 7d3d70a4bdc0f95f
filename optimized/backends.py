"""The steps that are worth a kernel, and who computes them: plain torch and scipy, or Triton."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from detr_conformance.optimized import boxes, class_terms, costs

BACKENDS = ("torch", "triton")


class Backend(NamedTuple):
    """One way to compute each step; a function of plain torch says in full what its step is.

    Attributes:
        solver: name of the assignment solver, see `linear_sum_assignment`.
        costs: see `costs.costs`.
        pair_terms: see `boxes.pair_terms`.
        class_terms: see `class_terms.class_terms`.
        scale_layers: see `class_terms.scale_layers`.
    """

    solver: str
    costs: Callable[..., Tensor]
    pair_terms: Callable[..., boxes.PairTerms]
    class_terms: Callable[..., class_terms.ClassSums]
    scale_layers: Callable[[Tensor, Tensor], None]


TORCH = Backend("scipy", costs.costs, boxes.pair_terms, class_terms.class_terms, class_terms.scale_layers)


def backend_for(device: torch.device, name: str | None) -> Backend:
    """Triton on CUDA and plain torch on the CPU, or the one that was asked for.

    Raises:
        RuntimeError: Triton is not installed, or runs on another device.
    """
    chosen = name or ("triton" if device.type == "cuda" else "torch")
    return TORCH if chosen == "torch" else _triton()


def _triton() -> Backend:
    """Imported when first needed: there is no Triton where there is no CUDA."""
    try:
        from detr_conformance.optimized.kernels import classification, matching_cost, pairs
    except ImportError as error:
        raise RuntimeError(
            f"the loss on CUDA needs Triton, which does not import ({error}): pip install triton, or backend='torch'"
        ) from error
    return Backend(
        "triton", matching_cost.costs, pairs.pair_terms, classification.class_terms, classification.scale_layers
    )
