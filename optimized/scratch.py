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

    memory = torch.empty(0, dtype=torch.uint8)


_kept = _Kept()


def scratch(count: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Arrays with anything in them, which are the caller's until anyone in the same thread asks for the next.

    On other devices than the CPU they are new: the allocators there keep memory by themselves.

    Args:
        count: how many arrays.
        shape: of each.
        dtype: of their numbers.
        device: where they are needed.
    """
    if device.type != "cpu":
        return torch.empty((count, *shape), dtype=dtype, device=device).unbind()
    size = count * math.prod(shape) * dtype.itemsize
    if len(_kept.memory) < size:
        _kept.memory = torch.empty(size, dtype=torch.uint8)
    return _kept.memory[:size].view(dtype).view(count, *shape).unbind()
