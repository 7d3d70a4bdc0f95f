"""Our own fast implementation as a port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from detr_conformance.errors import UsageError
from detr_conformance.optimized import RTDETRDetectionLoss, get_cdn_group
from detr_conformance.ports.torch_port import CaseTensors
from detr_conformance.ports.ultralytics import UltralyticsPort, denoising_arguments, given_arguments
from detr_conformance.properties.case import LossCase


class OptimizedPort(UltralyticsPort):
    """`detr_conformance.optimized`, which takes float64 too.

    Args:
        backend: "torch", "native" or "triton".
        device: where the tensors lie.
        name: what the report calls the port.
    """

    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def __init__(self, backend: str, device: str, name: str) -> None:
        """Check that the backend runs there."""
        self.device = device
        super().__init__(partial(RTDETRDetectionLoss, backend=backend), get_cdn_group, name)
        if backend != "triton" or device == "cuda":  # Triton's interpreter replaces functions that all threads share
            self.capabilities |= {"concurrent"}
        self.capabilities |= {"normaliser"}

    def call_in_step(
        self, loss: Any, case: LossCase, tensors: CaseTensors, step: Sequence[LossCase]
    ) -> Mapping[str, torch.Tensor]:
        """Divided by the pairs of all micro-batches; of denoising queries there may be as many as of no whole group."""
        pairs = sum(min(each.queries, count) for each in step for count in each.gt_groups)
        of_denoising = sum(len(row) for each in step if each.denoising is not None for row in each.denoising.pos_idx)
        losses: Mapping[str, torch.Tensor] = loss(
            *given_arguments(case, tensors),
            **denoising_arguments(case, tensors),
            normaliser=pairs,
            dn_normaliser=of_denoising,
        )
        return losses


def port() -> OptimizedPort:
    """Plain torch and SciPy, on the CPU."""
    return OptimizedPort("torch", "cpu", "optimized")


def native_port() -> OptimizedPort:
    """What numba compiles, on the CPU.

    Raises:
        ImportError: numba is not installed.
    """
    import numba  # noqa: F401  # the port's error says what is missing, not each rule's

    return OptimizedPort("native", "cpu", "optimized-native")


def triton_port() -> OptimizedPort:
    """The Triton kernels: on CUDA where there is a device, else by Triton's interpreter.

    Raises:
        ImportError: Triton is not installed.
        UsageError: there is no device, and the interpreter was not asked for.
    """
    from detr_conformance.optimized.backends.triton.device import INTERPRETED

    if torch.cuda.is_available():
        return OptimizedPort("triton", "cuda", "optimized-triton")
    if not INTERPRETED:
        raise UsageError(
            "the port optimized-triton needs a CUDA device, and torch sees none: "
            "set TRITON_INTERPRET=1 to run its kernels on the CPU"
        )
    return OptimizedPort("triton", "cpu", "optimized-triton")
