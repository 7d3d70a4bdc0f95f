"""Matching costs in plain torch: the two ways to the class costs, and boxes of every kind."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized.backends.torch import costs as module
from detr_conformance.optimized.backends.torch.costs import costs
from detr_conformance.optimized.boxes import bbox_iou
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.targets import Targets

LAYERS, IMAGES, QUERIES, CLASSES = 2, 3, 7, 2
SIZES = [0.0, 2.0**-20, 0.25, 1.0, -0.125]


def example(counts, dtype=torch.float32):
    """Predictions, and so many targets in the images, boxes of every size among them."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand((LAYERS, IMAGES, QUERIES, 4), generator=generator, dtype=dtype)
    boxes[..., : len(SIZES), 2] = torch.tensor(SIZES, dtype=dtype)
    of_targets = torch.rand((sum(counts), 4), generator=generator, dtype=dtype)
    of_targets[: len(SIZES), 3] = torch.tensor(SIZES, dtype=dtype)
    classes = torch.randint(CLASSES, (sum(counts),), generator=generator)
    scores = 4 * torch.randn((LAYERS, IMAGES, QUERIES, CLASSES), generator=generator, dtype=dtype)
    return boxes, scores, Targets(of_targets, classes, counts)


@pytest.mark.parametrize("use_fl", [True, False])
@pytest.mark.parametrize("block", [1, 3 * QUERIES, 1 << 17])
def test_looked_up_class_costs_are_those_of_each_target(use_fl, block, monkeypatch):
    options = CostOptions(2.0, 5.0, 2.0, use_fl, 0.25, 2.0)
    boxes, scores, targets = example((4, 0, 9))
    assert len(targets.classes) > IMAGES * CLASSES, "so they are looked up"
    monkeypatch.setattr(module, "BLOCK", block)
    together = costs(boxes, scores, targets, options)
    for place, image in enumerate(targets.images.tolist()):
        counts = tuple(int(each == image) for each in range(IMAGES))
        alone = Targets(targets.boxes[place : place + 1], targets.classes[place : place + 1], counts)
        assert torch.equal(together[:, place], costs(boxes, scores, alone, options)[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_boxes_of_every_size(dtype):
    options = CostOptions(0.0, 5.0, 2.0, True, 0.25, 2.0)
    boxes, scores, targets = example((4, 0, 9), dtype)
    exact, theirs = boxes.double(), targets.boxes.double()
    own = exact[:, targets.images]
    distance = (own - theirs[:, None]).abs().sum(-1)
    giou = bbox_iou(own, theirs[:, None].expand_as(own), GIoU=True)[..., 0]
    expected = 5.0 * distance + 2.0 * (1.0 - giou)
    off = (costs(boxes, scores, targets, options).double() - expected).abs()
    # A hull without extent has the area eps alone: a rounding of it weighs ten million times as much.
    assert float((off / (1.0 + expected.abs())).max()) < 64 * torch.finfo(dtype).eps


@pytest.mark.parametrize("counts", [(1, 0, 2), (4, 0, 9)], ids=["of each target", "looked up"])
def test_the_class_cost_of_softmax_is_the_probability_of_the_targets_class(counts):
    boxes, scores, targets = example((4, 0, 9))
    targets = Targets(targets.boxes[: sum(counts)], targets.classes[: sum(counts)], counts)
    got = costs(boxes, scores, targets, CostOptions(2.0, 0.0, 0.0, False, 0.25, 2.0))
    probabilities = scores.double().softmax(-1)[:, targets.images]
    labels = targets.classes[None, :, None, None].expand(LAYERS, -1, QUERIES, 1)
    assert torch.allclose(got.double(), -2.0 * probabilities.gather(-1, labels)[..., 0], rtol=1e-5, atol=0.0)
