"""Memory that calls share is not shared by threads, and nothing that a call returns lies in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from detr_conformance.optimized import RTDETRDetectionLoss
from detr_conformance.optimized.backends.torch.costs import costs
from detr_conformance.optimized.backends.torch.scratch import scratch
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

from .steps import step

CPU = torch.device("cpu")


def addresses():
    return {array.data_ptr() for array in scratch(CPU, *[((5, 7), torch.float32)] * 3)}


def test_arrays_do_not_overlap_and_are_handed_out_again():
    first, second = scratch(CPU, ((3, 5), torch.float32), ((4, 5), torch.int64))
    first.fill_(1)
    second.fill_(2)
    assert first.eq(1).all()
    assert first.shape == (3, 5)
    assert second.dtype == torch.int64
    assert len(addresses()) == 3
    assert addresses() == addresses()


def test_each_thread_has_its_own():
    own = addresses()
    with ThreadPoolExecutor(1) as pool:
        assert not own & pool.submit(addresses).result()


def test_an_inference_leaves_memory_that_training_can_use():
    with torch.inference_mode():
        scratch(CPU, ((1_000_000,), torch.float64))  # more than before, so it is new
    [array] = scratch(CPU, ((10,), torch.float64))
    assert array.fill_(1).sum() == 10


def test_costs_are_not_overwritten_by_the_next_call():
    draw = torch.Generator().manual_seed(0)
    boxes, scores = torch.rand(1, 1, 6, 4, generator=draw), torch.randn(1, 1, 6, 3, generator=draw)
    targets = Targets(torch.rand(2, 4, generator=draw), torch.tensor([0, 2]), (2,))
    options = CostOptions(2.0, 5.0, 2.0, use_fl=True, alpha=0.25, gamma=2.0)
    first = costs(boxes, scores, targets, options)
    before = first.clone()
    costs(boxes + 1, scores, targets, options)
    assert first.equal(before)


def test_calls_at_the_same_time_do_not_disturb_each_other():
    loss = RTDETRDetectionLoss(4, use_vfl=True)
    examples = [step(counts, groups=1) for counts in ((3, 0, 2), (1, 4, 2), (5, 5, 5))] * 8
    expected = [example(loss) for example in examples]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(lambda example: example(loss), examples), expected, strict=True):
            assert all(found[key].equal(alone[key]) for key in alone)
