"""Our own fast implementation as a port."""

from __future__ import annotations

from functools import partial

import torch

from detr_conformance.errors import UsageError
from detr_conformance.optimized import RTDETRDetectionLoss, get_cdn_group
from detr_conformance.ports.ultralytics import UltralyticsPort


class OptimizedPort(UltralyticsPort):
    """`detr_conformance.optimized`, which takes float64 too.

    Args:
        backend: "torch" or "triton".
        device: where the tensors lie.
        name: what the report calls the port.
    """

    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def __init__(self, backend: str, device: str, name: str) -> None:
        """Check that the backend runs there."""
        self.device = device
        super().__init__(partial(RTDETRDetectionLoss, backend=backend), get_cdn_group, name)
        if backend == "torch" or device == "cuda":  # Triton's interpreter replaces functions that all threads share
            self.capabilities |= {"concurrent"}


def port() -> OptimizedPort:
    """Plain torch and SciPy, on the CPU."""
    return OptimizedPort("torch", "cpu", "optimized")


def triton_port() -> OptimizedPort:
    """The Triton kernels: on CUDA where there is a device, else by Triton's interpreter.

    Raises:
        ImportError: Triton is not installed.
        UsageError: there is no device, and the interpreter was not asked for.
    """
    from detr_conformance.optimized.kernels.device import INTERPRETED

    if torch.cuda.is_available():
        return OptimizedPort("triton", "cuda", "optimized-triton")
    if not INTERPRETED:
        raise UsageError(
            "the port optimized-triton needs a CUDA device, and torch sees none: "
            "set TRITON_INTERPRET=1 to run its kernels on the CPU"
        )
    return OptimizedPort("triton", "cpu", "optimized-triton")
