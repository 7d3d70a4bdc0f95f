"""Who computes each step: by the device of the predictions, or as asked for."""

from __future__ import annotations

import torch

from detr_conformance.optimized.backends.protocol import Backend
from detr_conformance.optimized.backends.torch.backend import TorchBackend

BACKENDS = ("torch", "triton")


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
    return TorchBackend() if chosen == "torch" else triton_backend(device)


def triton_backend(device: torch.device) -> Backend:
    """Imported when first needed: there is no Triton where there is no CUDA."""
    try:
        from detr_conformance.optimized.backends.triton.backend import TritonBackend
        from detr_conformance.optimized.backends.triton.device import check_device
    except ImportError as error:
        raise RuntimeError(
            f"the loss on CUDA needs Triton, which does not import ({error}): pip install triton, or backend='torch'"
        ) from error
    check_device("the predictions", device)
    return TritonBackend()
