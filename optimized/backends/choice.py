"""Who computes each step: by the device of the predictions, or as asked for."""

from __future__ import annotations

import warnings
from functools import cache, lru_cache

import torch

from detr_conformance.optimized.backends.protocol import Backend
from detr_conformance.optimized.backends.torch.backend import TorchBackend

BACKENDS = ("torch", "native", "triton")

LEAST_CAPABILITY = (8, 0)
"""Of a CUDA device: the kernels are compiled and tested for this one and later ones."""

DEFAULTS = {"cuda": "triton", "cpu": "native"}
"""By the device of the predictions; on others plain torch, also on CUDA where the kernels cannot run."""


def check_backend(name: object) -> None:
    """A backend that exists, or None.

    Raises:
        ValueError: there is no such backend.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(f"backend is {name!r}, expected one of {BACKENDS} or None")


def backend_for(device: torch.device, name: str | None, what: str = "the predictions") -> Backend:
    """The one that was asked for; else Triton on CUDA, on the CPU what numba compiles, and torch where that cannot be.

    Args:
        device: where the tensors are.
        name: one of `BACKENDS`, or None.
        what: the tensors, as an error calls them.

    Raises:
        RuntimeError: what it needs is not installed, or runs on another device.
    """
    if device.type == "meta":
        raise RuntimeError(f"{what} are on meta, where there are no numbers: expected cpu or cuda")
    chosen = name or DEFAULTS.get(device.type, "torch")
    if chosen == "triton":
        return TorchBackend() if name is None and _is_without_triton(device) else triton_backend(device, what)
    if chosen == "native":
        return native_backend(device, what, is_asked_for=name is not None)
    return TorchBackend()


@cache
def _is_without_triton(device: torch.device) -> bool:
    """Whether the kernels cannot run on a CUDA device where nobody asked for them; it is said once."""
    try:
        import triton  # noqa: F401  # to see whether it can be
    except ImportError as error:
        reason = f"Triton does not import ({error})"
    else:
        capability = torch.cuda.get_device_capability(device)
        if capability >= LEAST_CAPABILITY:
            return False
        reason = "its compute capability is {}.{}, below {}.{}".format(*capability, *LEAST_CAPABILITY)
    warnings.warn(f"on {device} plain torch computes the loss, and not the kernels: {reason}", stacklevel=2)
    return True


def triton_backend(device: torch.device, what: str = "the predictions") -> Backend:
    """Imported when first needed: there is no Triton where there is no CUDA."""
    try:
        from detr_conformance.optimized.backends.triton.backend import TritonBackend
        from detr_conformance.optimized.backends.triton.device import check_device
    except ImportError as error:
        raise RuntimeError(
            f"backend is 'triton', and Triton does not import ({error}): pip install triton, or choose another"
        ) from error
    check_device(what, device)
    return TritonBackend()


def native_backend(device: torch.device, what: str, *, is_asked_for: bool) -> Backend:
    """What numba compiles; plain torch where nobody asked for it and numba does not import."""
    if device.type != "cpu":
        raise RuntimeError(f"backend is 'native' and {what} are on {device}, expected {what} on the CPU")
    backend = _native_or_why_not()
    if isinstance(backend, str) and is_asked_for:
        raise RuntimeError(f"backend is 'native', and numba does not import ({backend}): pip install numba")
    return TorchBackend() if isinstance(backend, str) else backend


@lru_cache(maxsize=1)
def _native_or_why_not() -> Backend | str:
    """The native backend, imported when first needed; or why it does not import, which is not tried again."""
    try:
        from detr_conformance.optimized.backends.native.backend import NativeBackend
    except ImportError as error:
        return str(error)
    return NativeBackend()
