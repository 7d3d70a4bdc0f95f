"""Where the kernels run."""

from __future__ import annotations

import torch
import triton

from detr_conformance.optimized.backends.triton.arithmetic import exp_of_negative

INTERPRETED = not isinstance(exp_of_negative, triton.JITFunction)
"""Whether Triton runs on the CPU: TRITON_INTERPRET=1 was set when the kernels were imported."""


def check_device(what: str, device: torch.device) -> None:
    """Triton runs there.

    Raises:
        RuntimeError: the device is the CPU, and Triton does not interpret.
    """
    if device.type == "cpu" and not INTERPRETED:
        raise RuntimeError(
            f"backend is 'triton' and {what} are on the CPU, where Triton only runs if TRITON_INTERPRET=1 was set "
            f"before it was imported; expected {what} on CUDA, or another backend"
        )
