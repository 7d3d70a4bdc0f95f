"""The steps that are worth a kernel, and who computes them: plain torch and scipy, or Triton."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from detr_conformance.optimized import class_terms, costs, matched, totals

BACKENDS = ("torch", "triton")


class Backend(NamedTuple):
    """One way to compute each step; a function of plain torch says in full what its step is.

    Attributes:
        solver: name of the assignment solver, see `linear_sum_assignment`.
        costs: see `costs.costs`.
        matched_terms: see `matched.matched_terms`.
        class_terms: see `class_terms.class_terms`.
        totals: see `totals.totals`.
        scale_layers: see `class_terms.scale_layers`.
        box_slopes: see `matched.box_slopes`.
    """

    solver: str
    costs: Callable[..., Tensor]
    matched_terms: Callable[..., matched.MatchedTerms]
    class_terms: Callable[..., class_terms.ClassSums]
    totals: Callable[..., totals.LayerLosses]
    scale_layers: Callable[..., None]
    box_slopes: Callable[..., Tensor]


TORCH = Backend(
    "scipy",
    costs.costs,
    matched.matched_terms,
    class_terms.class_terms,
    totals.totals,
    class_terms.scale_layers,
    matched.box_slopes,
)


def check_backend(name: object) -> None:
    """A backend that exists, or None.

    Raises:
        ValueError: there is no such backend.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(f"backend is {name!r}, expected one of {BACKENDS} or None")


def backend_for(device: torch.device, name: str | None) -> Backend:
    """Triton on CUDA and plain torch on the CPU, or the one that was asked for.

    Raises:
        RuntimeError: Triton is not installed, or runs on another device.
    """
    if device.type == "meta":
        raise RuntimeError("the predictions are on meta, where there are no numbers: expected cpu or cuda")
    chosen = name or ("triton" if device.type == "cuda" else "torch")
    return TORCH if chosen == "torch" else _triton(device)


def _triton(device: torch.device) -> Backend:
    """Imported when first needed: there is no Triton where there is no CUDA."""
    try:
        from detr_conformance.optimized.kernels import box_slopes, classification, matching_cost, pairs
        from detr_conformance.optimized.kernels import totals as sums
        from detr_conformance.optimized.kernels.device import check_device
    except ImportError as error:
        raise RuntimeError(
            f"the loss on CUDA needs Triton, which does not import ({error}): pip install triton, or backend='torch'"
        ) from error
    check_device("the predictions", device)
    return Backend(
        "triton",
        matching_cost.costs,
        pairs.matched_terms,
        classification.class_terms,
        sums.totals,
        classification.scale_layers,
        box_slopes.box_slopes,
    )
