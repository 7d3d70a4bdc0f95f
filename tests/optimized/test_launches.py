"""How often a training step makes the device start something: on a GPU that, not arithmetic, takes a step's time."""

from __future__ import annotations

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detr_conformance.optimized import RTDETRDetectionLoss

from .steps import KINDS

pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
from .host_only import META, on_the_host_only, without_numbers

only_the_host = pytest.fixture(on_the_host_only)

# What torch does on the host alone: views, and memory from its allocator.
STARTS_NOTHING = {"empty", "expand", "select", "slice", "unbind", "unsqueeze", "view", "detach", "as_strided"}

SENT = "empty_like"
"""What stands in the place of a transfer, see `host_only.not_sent`."""


class Operators(TorchDispatchMode):
    """Notes every operator of torch that starts something on the device."""

    def __init__(self):
        super().__init__()
        self.started = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        result = func(*args, **kwargs or {})
        if name not in STARTS_NOTHING and any(each.device == META for each in tree_leaves(result)):
            self.started.append(name)
        return result


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_step_with_denoising_starts_little(options, only_the_host):
    example, loss = without_numbers(), RTDETRDetectionLoss(4, **options)
    with Operators() as forward:
        losses = example(loss)
    each_part = ["_match_up", "_classify", "_total"]
    assert only_the_host == ["_costs", "_solve", *each_part, *each_part]
    transfers = forward.started.count(SENT)
    assert transfers <= 4, forward.started
    assert len(forward.started) - transfers <= 11, forward.started
    total = sum(losses.values())
    only_the_host.clear()
    with Operators() as backward:
        total.backward()
    assert only_the_host == ["_place", "_scale", "_place", "_scale"]
    # For each prediction zeros, or what the kernels write into, becomes its gradient.
    assert len(backward.started) <= 4, backward.started
