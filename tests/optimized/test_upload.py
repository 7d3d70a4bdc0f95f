"""What is sent to a device once is shared between calls: whoever gets a result may write into it all the same."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, pairing, targets
from detr_conformance.optimized.backends import by_costs

from .steps import step


@pytest.fixture
def shared(monkeypatch):
    """The tensors that CUDA would keep, here on the CPU, by what they are made of."""
    kept = {}

    def on_device(make, *arguments, device):
        assert device.type == "cpu"
        return kept.setdefault((make, arguments), make(*arguments))

    for module in (by_costs, pairing, targets):
        monkeypatch.setattr(module, "on_device", on_device)
    return kept


def matched():
    example = step(groups=0)
    (boxes, scores), batch = example.predictions, example.batch
    return HungarianMatcher(backend="torch")(boxes[0], scores[0], batch["bboxes"], batch["cls"], batch["gt_groups"])


PAIRS = [(torch.tensor([2, 0]), torch.tensor([1, 0])), (torch.tensor([1]), torch.tensor([2]))]
RESULTS = {
    "the matcher's pairs": matched,
    "denoising pairs": lambda: RTDETRDetectionLoss.get_dn_match_indices([torch.arange(4), torch.arange(2)], 2, [2, 1]),
    "flat indices": lambda: DETRLoss._get_index(PAIRS),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_caller_may_write_into_what_it_gets(shared, name):
    result = RESULTS[name]()
    before = {key: tensor.clone() for key, tensor in shared.items()}
    assert before
    for tensor in torch.utils._pytree.tree_leaves(result):
        tensor.fill_(-7)
    assert all(torch.equal(tensor, before[key]) for key, tensor in shared.items())


def test_a_step_writes_into_nothing_that_is_shared(shared):
    step().gradients(RTDETRDetectionLoss(4, use_vfl=True, backend="torch"))
    before = {key: tensor.clone() for key, tensor in shared.items()}
    step().gradients(RTDETRDetectionLoss(4, use_vfl=True, backend="torch"))
    assert len(before) > 3
    assert all(torch.equal(tensor, before[key]) for key, tensor in shared.items())
