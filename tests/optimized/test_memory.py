"""How much memory a step takes, by the workload and the meter of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detr_conformance.optimized import RTDETRDetectionLoss

from .steps import KINDS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MOST = 1.5
"""Of the size of the logits, whose gradient alone is 1.0; what SciPy and numba hold inside of a call is not counted."""


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    """The files of the benchmarks import each other by their bare names."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return torch.device(request.param)


@pytest.mark.parametrize("backend", [None, "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_coco_holds_little_more_than_its_gradient(kind, backend, device):
    from peers import from_nothing
    from timing import peak_memory
    from workloads import WORKLOADS, build

    inputs = build(WORKLOADS["coco"], device)
    loss = RTDETRDetectionLoss(inputs.workload.classes, **KINDS[kind], backend=backend)
    predictions = [part(which) for part in (inputs.ordinary, inputs.noised) for which in ("boxes", "logits")]

    def forward_and_backward():
        losses = loss(tuple(predictions[:2]), inputs.batch, *predictions[2:], dn_meta=inputs.dn_meta)
        return losses, torch.autograd.grad(sum(losses.values()), predictions)

    logits = sum(each.numel() * each.element_size() for each in predictions[1::2])
    assert logits <= peak_memory(from_nothing(forward_and_backward), device) <= MOST * logits


def test_the_meter_sees_what_is_held_at_the_highest_point():
    from timing import peak_memory

    def two_at_once_and_then_one_more():
        kept = torch.ones(1000) + 1
        return kept, kept.double(), np.ones(1000)

    assert 0 <= peak_memory(two_at_once_and_then_one_more, torch.device("cpu")) - (4000 + 8000 + 8000) < 2000
