"""Ways to notice that the host waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

SENDING = {"tensor", "as_tensor", "asarray", "scalar_tensor"}
"""Functions that make a tensor of what Python holds; on CUDA they return when the device has it."""


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for a CUDA device raises."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class NoSending(TorchFunctionMode):
    """Where there is no device: whatever would wait on CUDA until a value of Python's has arrived raises."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in SENDING and torch.device(kwargs.get("device") or "cpu").type != "cpu":
            raise AssertionError(f"torch.{name} makes the host wait for the device")
        return func(*args, **kwargs)
