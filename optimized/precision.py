"""In which dtype the arithmetic is done."""

from __future__ import annotations

import torch
from torch import Tensor


def arithmetic_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where one of them is, else float32: halves are read and written, never computed with."""
    return torch.float64 if torch.float64 in {tensor.dtype for tensor in tensors} else torch.float32


def counting_dtype(device: torch.device) -> torch.dtype:
    """float64; on MPS, which has none, float32, where whole numbers are exact up to 2^24."""
    return torch.float32 if device.type == "mps" else torch.float64
