"""Memory to compute in on the CPU, kept for the next call.

Memory that is new has to be mapped page by page when it is first written, which takes longer than the arithmetic. And
what a step frees, the allocator may well have given back before the next one.
"""

from __future__ import annotations

import math
import threading
from itertools import accumulate

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes; each array starts at a multiple, as torch's own do."""


class _Kept(threading.local):
    """What the calls of this thread share."""

    memory = torch.empty(0, dtype=torch.uint8)


_kept = _Kept()


def scratch(device: torch.device, *arrays: tuple[tuple[int, ...], torch.dtype]) -> list[Tensor]:
    """Arrays with anything in them, the caller's until others are asked for in the same thread.

    On other devices than the CPU they are new: the allocators there keep memory by themselves.

    Args:
        device: where they are needed.
        arrays: shape and dtype of each.
    """
    if device.type != "cpu":
        return [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in arrays]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in arrays]
    *starts, end = accumulate((-(-size // ALIGNMENT) * ALIGNMENT for size in sizes), initial=0)
    if len(_kept.memory) < end:
        _kept.memory = torch.empty(end, dtype=torch.uint8)
    return [
        _kept.memory[start : start + size].view(dtype).view(shape)
        for start, size, (shape, dtype) in zip(starts, sizes, arrays, strict=True)
    ]
