"""The criterion for the RT-DETR repositories beside one of that form in the lightly-train package.

Runs where the package is installed: `tox run -e client-lightly`.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the criteria are in PyTorch")
pytest.importorskip(
    "detr_conformance.ports.lightly_train",
    reason="needs the lightly-train package: tox run -e client-lightly",
    exc_type=ImportError,
)
import torch

from detr_conformance.optimized.rtdetr import HungarianMatcher, RTDETRCriterion
from detr_conformance.ports import lightly_train as theirs

from ..optimized.layers_of_rtdetr import CLASSES, outputs

pytestmark = pytest.mark.thorough

ROUNDINGS = 64 * 2.0**-23  # of a sum of some thousand terms
COSTS = {"cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}
WEIGHTS = {"loss_vfl": 1.5, "loss_bbox": 5.0, "loss_giou": 2.0}
OPTIONS = {
    "recipe": {"alpha": 0.75, "gamma": 2.0},
    "defaults": {},
    "other exponents": {"alpha": 0.4, "gamma": 1.5},
    "shared matching": {"share_matched_indices": True},
}


@pytest.mark.parametrize("matched_by", ["ours", "theirs"])
@pytest.mark.parametrize("losses", [["vfl", "boxes"], ["vfl"], ["boxes"]], ids="-".join)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_is_that_of_the_package(options, losses, matched_by):
    their_matcher = theirs.HungarianMatcher(COSTS, use_focal_loss=True)
    matcher = HungarianMatcher(COSTS, use_focal_loss=True) if matched_by == "ours" else their_matcher
    own = RTDETRCriterion(matcher, WEIGHTS, losses, num_classes=CLASSES, **options)
    other = theirs.RTDETRCriterionv2(their_matcher, WEIGHTS, losses, num_classes=CLASSES, **options)
    for seed in range(4):
        given = outputs(seed, dtype=torch.float32)
        given.outputs["enc_meta"] = {"class_agnostic": False}
        got, wanted = (each(given.outputs, given.targets, world_size=1) for each in (own, other))
        assert list(got) == list(wanted)
        for key, loss in wanted.items():
            assert got[key].item() == pytest.approx(loss.item(), rel=ROUNDINGS), key
        weights = torch.linspace(0.5, 1.5, len(got))
        grads = [
            torch.autograd.grad((torch.stack([*each.values()]) * weights).sum(), given.leaves, allow_unused=True)
            for each in (got, wanted)
        ]
        for mine, its in zip(*grads, strict=True):
            none = torch.zeros(())
            apart = (none if mine is None else mine) - (none if its is None else its)
            assert apart.abs().max() <= 16 * ROUNDINGS * (none if its is None else its).abs().max()
