"""What the host does on CUDA, watched without a device: everything but the kernels runs on tensors without numbers.

Of such tensors torch refuses to look at any, which on CUDA would mean waiting for the device.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from detr_conformance.optimized import (
    DETRLoss,
    HungarianMatcher,
    RTDETRDetectionLoss,
    detr_loss,
    get_cdn_group,
    matcher,
    pairing,
    targets,
    upload,
)

from .steps import KINDS, Step, step
from .waiting import NoSending

pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
from detr_conformance.optimized.backends import _triton
from detr_conformance.optimized.kernels import assignment, classification, matching_cost, pairs

META = torch.device("meta")
KERNELS = {"_solve": assignment, "_classify": classification, "_scale": classification}
KERNELS |= {"_costs": matching_cost, "_pair_terms": pairs}


class NoKernel:
    """In the place of a kernel: it can be launched, and does nothing."""

    def __getitem__(self, grid):
        return self.launched

    def launched(self, *arguments, **constants):
        """Nothing."""


def not_sent(make, *arguments, device):
    """In the place of `on_device`: from pinned memory nobody waits, and a tensor without numbers needs none."""
    return torch.empty_like(make(*arguments), device=device)


@pytest.fixture(autouse=True)
def only_the_host(monkeypatch):
    """What is done on CUDA is done for tensors without numbers, except by the kernels."""
    for kernel, module in KERNELS.items():
        monkeypatch.setattr(module, kernel, NoKernel())
    for module in (matcher, pairing, targets, upload):
        monkeypatch.setattr(module, "on_device", not_sent)
    for module in (matcher, detr_loss):
        monkeypatch.setattr(module, "backend_for", lambda device, _: _triton(device))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)


def without_numbers(**shape):
    """A step on the device of no numbers."""
    example = step(**shape)
    batch = example.batch | {key: example.batch[key].to(META) for key in ("cls", "bboxes")}
    leaves = [each.detach().to(META).requires_grad_() for each in example.predictions]
    if example.dn_meta is None:
        return Step(leaves, batch, None)
    return Step(
        leaves, batch, example.dn_meta | {"dn_pos_idx": [row.to(META) for row in example.dn_meta["dn_pos_idx"]]}
    )


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
