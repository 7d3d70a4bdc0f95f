"""Small tensors of what the host knows, on their way to the device, without either waiting for the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

REMEMBERED = 256
"""How many tensors stay on the devices. A batch needs four, of some hundred to some thousand bytes each."""

Make = Callable[..., Tensor]
"""Makes a tensor on the CPU out of hashable arguments, always the same one of the same arguments."""

_read_by_graphs: dict[tuple[Make, tuple[Hashable, ...], torch.device], Tensor] = {}
"""Tensors that a captured CUDA graph reads by address at each replay: they must outlive their place in the cache."""


def upload(
    values: Sequence[int], device: torch.device, dtype: torch.dtype = torch.int64
) -> Shaped[Tensor, " {len(values)}"]:
    """A row of integers as a tensor on the device; see `on_device`.

    Args:
        values: integers that the dtype can hold.
        device: where the row is needed.
        dtype: of the result.
    """
    return on_device(row, tuple(values), dtype, device=device)


def on_device(make: Make, *arguments: Hashable, device: torch.device) -> Tensor:
    """What `make` makes of the arguments, on the device; on CUDA a tensor shared with other callers: only read it.

    On CUDA it is made and sent once, from pinned memory, and kept. A second call with the same arguments transfers
    nothing, for two reasons: evaluation and gradient accumulation see the same counts again, and a CUDA graph must not
    capture the transfer, since a replay would read the pinned memory again, which by then holds something else. What
    can be worked out on the host is worked out there: on the device every operation is a launch.

    Args:
        make: makes a tensor on the CPU; a function of a module, not one made anew for each call.
        arguments: what it is called with.
        device: where the tensor is needed.

    Raises:
        RuntimeError: a CUDA graph is being captured, and this has not been sent before.
    """
    if device.type != "cuda":
        return make(*arguments).to(device)
    key = make, arguments, device
    tensor, sender = _sent(*key)
    stream = torch.cuda.current_stream(device)
    if torch.cuda.is_current_stream_capturing():
        # Waiting would be captured too, and is not needed: a capture begins when the whole device is idle.
        _read_by_graphs[key] = tensor
    elif stream != sender:
        stream.wait_stream(sender)
        tensor.record_stream(stream)
    return tensor


@lru_cache(maxsize=REMEMBERED)
def _sent(make: Make, arguments: tuple[Hashable, ...], device: torch.device) -> tuple[Tensor, torch.cuda.Stream]:
    """The tensor on the device, and the stream on which it arrives."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"the {make.__name__} of {arguments} is not on {device} yet, and a CUDA graph cannot capture its "
            "transfer: call once with the same counts before the capture"
        )
    # A tensor made in inference mode could not be saved for a backward pass later.
    with torch.inference_mode(mode=False):
        tensor = make(*arguments).pin_memory().to(device, non_blocking=True)
    return tensor, torch.cuda.current_stream(device)


def row(values: Sequence[int], dtype: torch.dtype = torch.int64) -> Shaped[Tensor, " {len(values)}"]:
    """The values, in order."""
    return torch.tensor(values, dtype=dtype, device="cpu")


def repeated(values: Sequence[int], times: Sequence[int]) -> Int64[Tensor, " {sum(times)}"]:
    """Each value as often as it is to be repeated. By NumPy, which takes a quarter of torch's time for so little."""
    return torch.from_numpy(np.repeat(np.array(values, np.int64), np.array(times, np.int64)))
