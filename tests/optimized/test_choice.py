"""Who computes where nobody asked for a backend: on CUDA plain torch, with a warning, if the kernels cannot run."""

from __future__ import annotations

import sys

import pytest
import torch

from detr_conformance.optimized.backends import choice
from detr_conformance.optimized.backends.torch.backend import TorchBackend

DEVICE = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_known():
    """What is found here is not kept for other tests, nor what they have found."""
    choice._is_without_triton.cache_clear()
    yield
    choice._is_without_triton.cache_clear()


def test_without_triton_it_is_torch_and_said_once(monkeypatch, recwarn):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert isinstance(choice.backend_for(DEVICE, None), TorchBackend)
    assert isinstance(choice.backend_for(DEVICE, None), TorchBackend)
    [warning] = recwarn
    assert str(warning.message).startswith(
        "on cuda:0 plain torch computes the loss, and not the kernels: Triton does not import ("
    )


@pytest.mark.parametrize(("capability", "is_torch"), [((7, 5), True), ((8, 0), False), ((9, 0), False)])
def test_an_older_device_is_for_torch(capability, is_torch, monkeypatch, recwarn):
    pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert isinstance(choice.backend_for(DEVICE, None), TorchBackend) == is_torch
    told = [str(warning.message) for warning in recwarn]
    assert told == (
        ["on cuda:0 plain torch computes the loss, and not the kernels: its compute capability is 7.5, below 8.0"]
        if is_torch
        else []
    )


def test_who_asks_for_the_kernels_is_told_that_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("detr_conformance.optimized.backends.triton.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RuntimeError, match="backend is 'triton', and Triton does not import"):
        choice.backend_for(DEVICE, "triton")
