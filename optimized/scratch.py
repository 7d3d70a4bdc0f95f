"""Memory to compute in on the CPU, kept for the next call.

Memory that is new has to be mapped page by page when it is first written, which takes longer than the arithmetic. And
what a step frees, the allocator may well have given back before the next one.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class _Kept(threading.local):
    """What the calls of this thread share."""

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}


_kept = _Kept()


def scratch(purpose: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An array with anything in it, the caller's until another for that purpose is asked for in the same thread.

    On other devices than the CPU it is new: the allocators there keep memory by themselves.

    Args:
        purpose: whose memory it is.
        shape: its shape.
        dtype: of their numbers.
        device: where they are needed.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    if purpose not in _kept.memory or len(_kept.memory[purpose]) < size:
        _kept.memory[purpose] = torch.empty(size, dtype=torch.uint8)
    return _kept.memory[purpose][:size].view(dtype).view(shape)
