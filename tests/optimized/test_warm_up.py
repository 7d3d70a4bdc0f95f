"""After the warm-up no step compiles anything, whatever its form."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

PROGRAM = """
import torch
from numba.core.registry import CPUDispatcher

from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, linear_sum_assignment
from detr_conformance.optimized.backends.native import assignment, box_gradients, classification, costs, pairs
from detr_conformance.optimized.warm_up import warm_up
from tests.optimized.layers_of_rtdetr import config, outputs
from tests.optimized.steps import step
from detr_conformance.optimized.transformers import rt_detr_loss


def compiled():
    modules = assignment, box_gradients, classification, costs, pairs
    found = {(m.__name__, n): k for m in modules for n, k in vars(m).items() if isinstance(k, CPUDispatcher)}
    return {name: len(kernel.signatures) for name, kernel in found.items()}


warm_up()
before = compiled()
assert sum(before.values()) > 8, before
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for options in ({"use_vfl": True}, {}, {"use_fl": False}, {"gamma": 0.7}):
        step((3, 1, 2), dtype=dtype).outcome(RTDETRDetectionLoss(4, **options))
step((0, 0), groups=0).outcome(RTDETRDetectionLoss(4))
step((9, 1), queries=4).outcome(RTDETRDetectionLoss(4))
given = outputs(dtype=torch.float32)
arguments, more = given.for_transformers()
rt_detr_loss(*arguments, config(), **more)[0].backward()
torch.set_num_threads(1)
rt_detr_loss(*arguments, config(), **more)
linear_sum_assignment(torch.rand(2, 3, 4))
after = compiled()
assert after == before, {name: (before[name], after[name]) for name in after if after[name] != before[name]}
print("nothing")
"""


@pytest.mark.thorough
def test_no_step_compiles_anything(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "nothing\n", done.stderr[-3000:]
    assert list(tmp_path.rglob("*.nbi")), "nothing was kept"
