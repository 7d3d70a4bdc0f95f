"""How kernels get factors: as numbers that the host knows, or out of tensors that it never reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.options import Weight


def as_arguments(
    weights: Sequence[Weight], dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " weights"] | None, list[int]]:
    """Weights as arguments of a kernel, for `weight_at`.

    Triton would pass a float as float32, and a tensor made of numbers costs launches. So numbers go as the bits of
    float64, which cost nothing; if one weight is on the device, all of them are put there.

    Args:
        weights: numbers, or tensors of one number.
        dtype: in which they are needed on the device.
        device: of the tensors.

    Returns:
        All weights in one tensor, and None's; or None, and the bits of each.
    """
    if any(isinstance(weight, Tensor) for weight in weights):
        return torch.stack([as_tensor(weight, dtype, device) for weight in weights]), [0] * len(weights)
    return None, [bits_of(float(weight)) for weight in weights]


def as_tensor(weight: Weight, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "*layers"]:
    """The weight in a tensor, with an axis of layers if it has one. torch's own ways would wait for the device."""
    return weight.to(dtype) if isinstance(weight, Tensor) else torch.full((), weight, dtype=dtype, device=device)


def bits_of(number: float) -> int:
    """The bits of a float64, as an integer of 64 bits."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def step_of(auxiliary: Weight | None) -> int:
    """From the factor of one layer before the last to that of the next, for `of_layer`; there may be one for all."""
    return 1 if isinstance(auxiliary, Tensor) and auxiliary.dim() else 0


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def weight_at(weights, bits, WHICH: tl.constexpr, DTYPE: tl.constexpr):
    """One of the weights that `as_arguments` prepared."""
    if weights is None:
        return bits.to(tl.int64).to(tl.float64, bitcast=True).to(DTYPE)
    else:
        return tl.load(weights + WHICH)


@triton.jit
@no_type_check
def of_layer(value, main, auxiliary, step, layer, layers):
    """A value times the factor of its layer; 0, also of NaN, where there is no factor: nobody asked for it.

    The factor of another layer than the last is `step` numbers after that of the one before: 0 where all share one.
    Where each has one of its own, a factor of 0 makes 0 of NaN, too.
    """
    is_main = layer == layers - 1
    if main is None:
        if auxiliary is None:
            return tl.zeros_like(value)
        else:
            factor = tl.load(auxiliary + tl.where(is_main, 0, layer * step))
            return tl.where(is_main | ((factor == 0.0) & (step > 0)), 0.0, value * factor)
    elif auxiliary is None:
        return tl.where(is_main, value * tl.load(main), 0.0)
    else:
        factor = tl.where(is_main, tl.load(main), tl.load(auxiliary + tl.where(is_main, 0, layer * step)))
        return tl.where((factor == 0.0) & (step > 0), 0.0, value * factor)
