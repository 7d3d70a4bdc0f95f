"""Small rows of integers on their way from the host to the device, without either waiting for the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Shaped
from torch import Tensor

REMEMBERED = 256
"""How many rows stay on the devices. A batch needs about three, of some hundred bytes each."""

_read_by_graphs: dict[tuple[tuple[int, ...], torch.device, torch.dtype], Tensor] = {}
"""Rows that a captured CUDA graph reads by address at each replay: they must outlive their place in the cache."""


def upload(
    values: Sequence[int], device: torch.device, dtype: torch.dtype = torch.int64
) -> Shaped[Tensor, " {len(values)}"]:
    """A row of integers as a tensor on the device; on CUDA one that is shared with other callers: only read it.

    On CUDA a row is sent once, from pinned memory, and kept. A second call with the same values transfers nothing,
    for two reasons: evaluation and gradient accumulation see the same counts again, and a CUDA graph must not capture
    the transfer, since a replay would read the pinned memory again, which by then holds something else.

    Args:
        values: integers that the dtype can hold.
        device: where the row is needed.
        dtype: of the result.

    Returns:
        The values, in order.

    Raises:
        RuntimeError: a CUDA graph is being captured, and these values have not been sent before.
    """
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    key = tuple(values), device, dtype
    row, sender = _sent(*key)
    stream = torch.cuda.current_stream(device)
    if torch.cuda.is_current_stream_capturing():
        # Waiting would be captured too, and is not needed: a capture begins when the whole device is idle.
        _read_by_graphs[key] = row
    elif stream != sender:
        stream.wait_stream(sender)
        row.record_stream(stream)
    return row


@lru_cache(maxsize=REMEMBERED)
def _sent(
    values: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Shaped[Tensor, " {len(values)}"], torch.cuda.Stream]:
    """The row on the device, and the stream on which it arrives."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"values {values} are not on {device} yet, and a CUDA graph cannot capture their transfer: "
            "call once with the same counts before the capture"
        )
    # A tensor made in inference mode could not be saved for a backward pass later.
    with torch.inference_mode(mode=False):
        row = torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
    return row, torch.cuda.current_stream(device)
