"""Importing packages whose compiled operators do not load, or are not there."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch

_kept: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def declare_torchvision_operators() -> None:
    """Let torchvision be imported where its compiled operators do not load, as beside a CPU build of torch.

    Its import asks only that two of them are declared. What is made of plain torch works then; those two raise.
    """
    if "torchvision" in sys.modules or _kept:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch does not type it
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]  # as above
    _kept.append(library)


def stub_package(name: str) -> None:
    """Let a package be imported that is not there; whatever is asked of it is an empty module of torch."""
    sys.meta_path.insert(0, _StubFinder(name))


class _StubFinder(MetaPathFinder, Loader):
    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002  # the signature
        if fullname != self.name and not fullname.startswith(f"{self.name}."):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


class _Stub(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> type[torch.nn.Module]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})
