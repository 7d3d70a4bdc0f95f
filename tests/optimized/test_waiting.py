"""What the host does on CUDA, watched without a device: everything but the kernels runs on tensors without numbers.

Of such tensors torch refuses to look at any, which on CUDA would mean waiting for the device.
"""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, get_cdn_group

from .steps import KINDS, Step
from .waiting import NoSending

pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
from .host_only import META, on_the_host_only, without_numbers

only_the_host = pytest.fixture(autouse=True)(on_the_host_only)

SHAPES = {
    "": {},
    "without denoising": {"groups": 0},
    "more targets than queries": {"queries": 2},
    "no target": {"counts": (0, 0), "groups": 0},
    "float16": {"dtype": torch.float16},
    "one layer": {"layers": 1, "groups": 0},
}
OPTIONS = KINDS | {"one matching": {"use_uni_match": True}, "main layer": {"aux_loss": False}}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_host_looks_at_nothing(options, shape):
    example = without_numbers(**shape)
    with NoSending():
        example.gradients(RTDETRDetectionLoss(4, **options))


def test_nor_does_it_at_given_pairs():
    example = without_numbers(groups=0)
    (boxes, scores), batch = example.predictions, example.batch
    with NoSending():
        matched = HungarianMatcher()(boxes[0], scores[0], batch["bboxes"], batch["cls"], batch["gt_groups"])
        DETRLoss(4)(boxes, scores, batch, match_indices=matched)


def test_nor_does_it_at_the_targets_that_a_generator_chose():
    example = without_numbers()
    chosen = [torch.empty(count, dtype=torch.int64, device=META) for count in example.batch["gt_groups"]]
    with NoSending():
        Step(example.predictions, example.batch, example.dn_meta | {"dn_gt_idx": chosen})(RTDETRDetectionLoss(4))


@pytest.mark.parametrize("num_dn", [2, 10])
def test_nor_does_the_generator(num_dn):
    embedding = torch.empty(4, 8, device=META, requires_grad=True)
    with NoSending():
        labels, *_ = get_cdn_group(without_numbers().batch, 4, 6, embedding, num_dn, training=True)
        labels.sum().backward()
