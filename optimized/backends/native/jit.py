"""How functions are compiled, and how their work is shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from detr_conformance.optimized.threads import share

OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Other threads run meanwhile, a division by 0 gives what IEEE 754 says, and a product may be added unrounded."""

PIECES_PER_THREAD = 4
"""So that the threads end at about the same time, and Python is asked rarely."""

PER_THREAD = 1_000_000
"""Nanoseconds; with less to do for each, another thread costs more than it saves."""


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile at the first call, and keep the result on the disk; let other threads run meanwhile.

    Nothing is reordered: what NaN and infinity become is part of what is computed.
    """
    try:
        kernel: Callable[..., Any] = numba.njit(function, cache=True, **OPTIONS | options)
    except RuntimeError:  # no folder that may be written to
        kernel = numba.njit(function, **OPTIONS | options)
    return kernel


compiled_in_any_order = partial(compiled, fastmath={"reassoc"})
"""The same for a sum, whose terms may be added in any order."""


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what is called for each number: its loop is vectorised with it."""
    helper: Callable[..., Any] = numba.njit(function, **OPTIONS, inline="always")
    return helper


def as_array(tensor: Shaped[Tensor, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """The numbers of a tensor, in the order of its axes."""
    array: np.ndarray = tensor.detach().resolve_neg().contiguous().numpy()
    return array


def in_memory(
    logits: Float[Tensor, "layers images queries classes"],
) -> tuple[Float32[np.ndarray, " entries"], tuple[int, int]]:
    """The logits of all images in one row, with what may lie between them, and the steps between layers and images.

    Those that are the first or last queries of a larger tensor have gaps between the images.
    """
    floats = logits.detach().float().resolve_neg()
    *_, queries, classes = floats.shape
    if floats.stride()[2:] != (classes, 1) or min(floats.stride()) <= 0:
        floats = floats.contiguous()
    steps = floats.stride(0), floats.stride(1)
    length = sum((size - 1) * step for size, step in zip(floats.shape[:2], steps, strict=True)) + queries * classes
    return floats.as_strided((length,), (1,)).numpy(), steps


def in_threads(work: Callable[[int, int], None], pieces: int, nanoseconds: int) -> None:
    """Call `work(start, stop)` for all of so many pieces, in as many threads as pay.

    Args:
        work: what other threads may run beside.
        pieces: how many there are.
        nanoseconds: how long they take together in one thread, roughly.
    """
    threads = max(1, min(torch.get_num_threads(), pieces, nanoseconds // PER_THREAD))
    if threads == 1:
        work(0, pieces)
        return
    size = -(-pieces // (threads * PIECES_PER_THREAD))
    ranges = [(start, min(start + size, pieces)) for start in range(0, pieces, size)]
    share(ranges, partial(_of_ranges, work), threads)


def _of_ranges(work: Callable[[int, int], None]) -> Callable[[tuple[int, int]], None]:
    return lambda piece: work(*piece)
