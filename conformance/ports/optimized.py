"""Our own fast implementation as a port."""

from __future__ import annotations

from functools import partial

import torch

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


def port() -> OptimizedPort:
    """Plain torch and SciPy, on the CPU."""
    return OptimizedPort("torch", "cpu", "optimized")


def triton_port() -> OptimizedPort:
    """The Triton kernels: on CUDA where there is a device, else by Triton's interpreter."""
    return OptimizedPort("triton", "cuda" if torch.cuda.is_available() else "cpu", "optimized-triton")
