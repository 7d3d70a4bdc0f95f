"""Every public part of the loss against the same part of the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detr_conformance import reference
from detr_conformance.optimized import (
    DETRLoss,
    FocalLoss,
    HungarianMatcher,
    RTDETRDetectionLoss,
    VarifocalLoss,
    bbox_iou,
)

from .steps import KINDS, step

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}
GROUPS = [3, 0, 2]


@pytest.fixture
def layer():
    """One layer in float64: predictions as leaves, targets, counts."""
    example = step(tuple(GROUPS), layers=2, groups=0, dtype=torch.float64)
    boxes, scores = (each.detach()[0].clone().requires_grad_() for each in example.predictions)
    return boxes, scores, example.batch["bboxes"], example.batch["cls"]


def arrays(*tensors):
    return [each.detach().numpy() for each in tensors]


def assert_same_loss(ours, theirs, **inputs):
    """Value, and gradient with respect to each input."""
    __tracebackhide__ = True
    assert np.allclose(ours.detach().numpy(), float(theirs), **TOLERANCE)
    for name, tensor in inputs.items():
        (gradient,) = torch.autograd.grad(ours, [tensor], retain_graph=True)
        expected = theirs.gradients[name]
        assert np.allclose(gradient.numpy(), np.asarray(expected.values), **TOLERANCE)


@pytest.mark.parametrize("measure", [{}, {"GIoU": True}, {"DIoU": True}, {"CIoU": True}], ids=str)
@pytest.mark.parametrize("xywh", [True, False])
def test_bbox_iou(layer, measure, xywh):
    boxes, _, targets, _ = layer
    got = bbox_iou(boxes[0, :, None], targets[None], xywh=xywh, **measure)
    expected = reference.bbox_iou(*arrays(boxes[0, :, None], targets[None]), xywh=xywh, **measure)
    assert got.shape == (6, 5, 1)
    assert np.allclose(got.detach().numpy(), expected, **TOLERANCE)


def test_ciou_has_no_gradient_through_its_balance(layer):
    boxes, _, targets, _ = layer
    with torch.no_grad():
        iou = bbox_iou(boxes[0, :1], targets[:1])
    got = bbox_iou(boxes[0, :1], targets[:1], CIoU=True)
    (gradient,) = torch.autograd.grad(got.sum(), [boxes])
    shape = (torch.atan(targets[:1, 2] / targets[:1, 3]) - torch.atan(boxes[0, :1, 2] / boxes[0, :1, 3])) * 2 / torch.pi
    v = shape**2
    balance = (v / (1 - iou + v + 1e-7)).detach()
    expected = bbox_iou(boxes[0, :1], targets[:1], DIoU=True).sum() - (balance * v).sum()
    assert torch.allclose(gradient, torch.autograd.grad(expected, [boxes])[0], rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.25, 0.0, -1.0, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_focal_loss(layer, alpha, gamma):
    _, scores, _, _ = layer
    label = (torch.arange(scores.numel()).view(scores.shape) % 5 == 0).double()
    ours, theirs = FocalLoss(gamma, alpha)(scores, label), reference.FocalLoss(gamma, alpha)(*arrays(scores, label))
    assert_same_loss(ours, theirs, pred_scores=scores)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_varifocal_loss(layer, gamma):
    _, scores, _, _ = layer
    label = (torch.arange(scores.numel()).view(scores.shape) % 5 == 0).double()
    iou = label * torch.linspace(0, 1, scores.numel(), dtype=torch.float64).view(scores.shape)
    theirs = reference.VarifocalLoss(gamma, 0.6)(*arrays(scores, iou, label))
    assert_same_loss(VarifocalLoss(gamma, 0.6)(scores, iou, label), theirs, pred_scores=scores)


def test_modules_keep_their_own_defaults():
    assert (FocalLoss().gamma, FocalLoss().alpha) == (1.5, 0.25)
    assert (VarifocalLoss().gamma, VarifocalLoss().alpha) == (2.0, 0.75)


@pytest.mark.parametrize("options", [{}, {"use_fl": False}, {"alpha": 0.9, "gamma": 0.5}], ids=str)
@pytest.mark.parametrize("queries", [6, 2])
def test_the_matcher(layer, options, queries):
    boxes, scores, targets, classes = layer
    boxes, scores = boxes[:, :queries], scores[:, :queries]
    got = HungarianMatcher(**options)(boxes, scores, targets, classes, GROUPS)
    expected = reference.HungarianMatcher(**options)(*arrays(boxes, scores, targets, classes), GROUPS)
    for ours, theirs in zip(got, expected, strict=True):
        assert [each.tolist() for each in ours] == [each.tolist() for each in theirs]
        assert all(each.dtype == torch.int64 for each in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer(layer, kind):
    boxes, scores, *targets = layer
    losses = DETRLoss(4, **KINDS[kind])._get_loss(boxes, scores, *targets, GROUPS, postfix="_x")
    expected = reference.DETRLoss(4, **KINDS[kind])._get_loss(*arrays(*layer), GROUPS, postfix="_x")
    assert list(losses) == list(expected)
    assert_same_loss(losses["loss_class_x"], expected["loss_class_x"], pred_scores=scores)
    assert_same_loss(losses["loss_giou_x"], expected["loss_giou_x"], pred_bboxes=boxes)


@pytest.mark.parametrize("shared", [False, True])
def test_auxiliary_layers(shared):
    example = step(tuple(GROUPS), groups=0, dtype=torch.float64)
    options = {"use_uni_match": shared, "uni_match_ind": 1}
    given = (*example.predictions, example.batch["bboxes"], example.batch["cls"])
    losses = DETRLoss(4, **options)._get_loss_aux(*given, GROUPS)
    expected = reference.DETRLoss(4, **options)._get_loss_aux(*arrays(*given), GROUPS)
    assert list(losses) == list(expected)
    for key in losses:
        assert np.allclose(float(losses[key].detach()), float(expected[key]), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", [0, 3])
def test_the_class_loss_of_given_targets(layer, kind, pairs):
    _, scores, _, _ = layer
    targets, iou = torch.full((3, 6), 4), torch.zeros(3, 6, dtype=torch.float64)
    for image in range(pairs):
        targets[image, image + 1], iou[image, image + 1] = image, 0.3 * image
    got = DETRLoss(4, **KINDS[kind])._get_loss_class(scores, targets, iou, pairs)
    expected = reference.DETRLoss(4, **KINDS[kind])._get_loss_class(*arrays(scores, targets, iou), pairs)
    assert_same_loss(got["loss_class"], expected["loss_class"], pred_scores=scores)


@pytest.mark.parametrize("pairs", [0, 5])
def test_the_box_losses_of_given_pairs(layer, pairs):
    boxes, _, targets, _ = layer
    pred = boxes.detach()[0, :pairs].clone().requires_grad_()
    got = DETRLoss(4)._get_loss_bbox(pred, targets[:pairs], "_x")
    expected = reference.DETRLoss(4)._get_loss_bbox(*arrays(pred, targets[:pairs]), "_x")
    for key in expected:
        assert_same_loss(got[key], expected[key], pred_bboxes=pred)


def test_indices_of_pairs():
    pairs = [(torch.tensor([1, 4]), torch.tensor([1, 0])), (torch.tensor([], dtype=torch.int64),) * 2]
    pairs.append((torch.tensor([0]), torch.tensor([2])))
    (images, queries), targets = DETRLoss._get_index(pairs)
    assert images.tolist() == [0, 0, 2]
    assert queries.tolist() == [1, 4, 0]
    assert targets.tolist() == [1, 0, 2]


def test_assigned_boxes_count_targets_within_their_image(layer):
    boxes, _, targets, _ = layer
    pairs = [(torch.tensor([1, 4]), torch.tensor([2, 0])), (torch.tensor([5]), torch.tensor([1]))]
    assigned, wanted = DETRLoss._get_assigned_bboxes(boxes[:2], [targets[:3], targets[3:]], pairs)
    assert torch.equal(assigned, boxes[[0, 0, 1], [1, 4, 5]])
    assert torch.equal(wanted, targets[[2, 0, 4]])


@pytest.mark.parametrize("form", ["counts", "targets of a group", "both"])
def test_both_forms_of_denoising_indices(form):
    slots = [torch.tensor([0, 1, 4, 5]), torch.tensor([], dtype=torch.int64), torch.tensor([0, 4])]
    targets = [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64), torch.tensor([2])]
    given = {"counts": ([2, 0, 1],), "targets of a group": (targets,), "both": ([2, 0, 1], targets)}[form]
    got = RTDETRDetectionLoss.get_dn_match_indices(slots, 2, *given)
    assert [each.tolist() for each, _ in got] == [[0, 1, 4, 5], [], [0, 4]]
    assert [each.tolist() for _, each in got] == [[0, 1, 0, 1], [], [2, 2]]
