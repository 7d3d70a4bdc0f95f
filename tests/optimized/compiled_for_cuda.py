"""Compile every kernel, as a training step launches it, for CUDA devices that need not be here.

`python -m tests.optimized.compiled_for_cuda 80 90` prints a line for each kernel, form and compute capability. Triton
brings the compiler of CUDA along, so whatever it refuses shows without a device; what a kernel computes does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from detr_conformance.optimized import RTDETRDetectionLoss, rtdetr_loss
from detr_conformance.optimized.backends.triton import device
from detr_conformance.optimized.normaliser import Normaliser

from .host_only import KERNELS
from .steps import KINDS, step

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TYPES = {
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


class Launch(NamedTuple):
    """What Triton compiles a kernel for: the types of its arguments, and what is constant."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    num_warps: int


class Recorder:
    """In the place of a kernel: notes how it is launched, and does nothing."""

    def __init__(self, kernel: Any, launches: dict[str, Launch]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.launch

    def launch(self, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        types = {}
        for parameter, argument in zip(self.kernel.params, arguments, strict=False):
            # Triton takes None for constant, and 1 where nothing forbids it.
            if argument is None or (is_one(argument) and not parameter.do_not_specialize):
                constants[parameter.name] = argument
            else:
                types[parameter.name] = parameter.annotation_type or type_of(argument)
        name = f"{self.kernel.__name__} {sorted(constants.items(), key=str)} {sorted(set(types.values()))}"
        self.launches[name] = Launch(self.kernel, types, constants, num_warps)


def is_one(argument: Any) -> bool:
    return isinstance(argument, int) and argument == 1


def type_of(argument: Any) -> str:
    """As Triton writes it."""
    if isinstance(argument, torch.Tensor):
        return f"*{TYPES[argument.dtype]}"
    assert isinstance(argument, int), f"{argument} would be passed as float32"
    return "i32"


def recorded() -> dict[str, Launch]:
    """The launches of steps of every kind and dtype, of single losses, and with weights that only the device knows."""
    launches: dict[str, Launch] = {}
    for name, module in KERNELS.items():
        setattr(module, name, Recorder(getattr(module, name), launches))
    device.check_device = lambda *_: None  # type: ignore[assignment]  # nothing runs
    for dtype in DTYPES:
        for options in KINDS.values():
            take_a_step(dtype, options, lambda losses: 2 * sum(losses.values()))
    for key in SINGLE:
        take_a_step(torch.float32, {}, lambda losses, key=key: losses[key])
    rtdetr_loss.normalisers = on_the_device  # type: ignore[attr-defined]
    for options in KINDS.values():
        take_a_step(torch.float32, options, lambda losses: sum(losses.values()))
    return launches


SINGLE = ("loss_class", "loss_class_aux", "loss_bbox", "loss_bbox_aux", "loss_giou", "loss_giou_aux")


def take_a_step(dtype: torch.dtype, options: dict[str, bool], total: Callable[..., Tensor]) -> None:
    """Forward and backward."""
    example = step(dtype=dtype)
    losses = example(RTDETRDetectionLoss(4, **options, backend="triton"))
    torch.autograd.grad(total(losses), example.predictions, allow_unused=True)


def on_the_device(pairs: Sequence[int], *_: Any) -> list[Normaliser]:
    """In the place of `normalisers`: what processes agreed on, which no host has seen."""
    return [Normaliser(torch.tensor(float(count), dtype=torch.float64), 2) for count in pairs]


def compiled(capability: int) -> Iterator[str]:
    """Compile every launch; a line for each."""
    for name, (kernel, types, constants, num_warps) in recorded().items():
        signature = {each: types.get(each, "constexpr") for each in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps})
        yield f"sm_{capability} {len(result.asm['cubin'])} bytes, {result.metadata.shared} shared: {name}"


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        for line in compiled(int(wanted)):
            sys.stdout.write(f"{line}\n")
