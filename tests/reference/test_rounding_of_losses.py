"""Float32 stays within the bounds of whole losses and costs, in every arrangement. Nor are the bounds idle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.reference import DETRLoss, LossConfig, MatcherConfig, bbox_iou, track
from detr_conformance.reference.classification import FOCAL, VARIFOCAL, binary_cross_entropy, sigmoid
from detr_conformance.reference.matcher import focal_class_cost
from detr_conformance.reference.tape import gradients, variable

from .in_float32 import (
    ENTROPIES,
    area_from_corners,
    area_from_size,
    assert_within,
    box_pairs,
    logits,
    overlaps,
    probability,
    scores,
    shares,
)

GAMMAS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # what an operation on a bound returns, NumPy decides


@pytest.mark.parametrize("name", ["IoU", "GIoU"])
@pytest.mark.parametrize("area", [area_from_size, area_from_corners])
@pytest.mark.parametrize("fold", [True, False])
def test_overlaps_in_float32_stay_within_their_bounds(name, area, fold):
    a, b = box_pairs()
    expected = bbox_iou(track(a), track(b), GIoU=name == "GIoU")[:, 0]
    assert_within(overlaps(a, b, area, fold)[name], expected)


@pytest.mark.parametrize("name", ["DIoU", "CIoU"])
@pytest.mark.parametrize("xywh", [True, False])
def test_distance_and_complete_iou_in_float32_stay_within_their_bounds(name, xywh):
    a, b = box_pairs()
    if not xywh:
        a[:, 2:], b[:, 2:] = a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]
    options = {"xywh": xywh, name: True}
    got = bbox_iou(a, b, **options, eps=np.float32(1e-7))
    assert_within(got, bbox_iou(track(a), track(b), **options))


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_cross_entropy_in_float32_stays_within_its_bound(entropy):
    x, (q, iou) = logits(), scores()
    assert_within(entropy(x, q), binary_cross_entropy(track(x), iou))


def test_sigmoids_in_float32_stay_within_their_bound():
    assert_within(probability(logits()), sigmoid(track(logits())))


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_terms_in_float32_with_one_minus_p_by_subtraction_stay_within_their_bound(entropy, gamma):
    x, y = logits(), (np.arange(4000) % 2).astype(np.float32)
    p = probability(x)
    truth = p * y + (1 - p) * (1 - y)
    got = entropy(x, y) * (1 - truth) ** np.float32(gamma) * (np.float32(0.25) * y + np.float32(0.75) * (1 - y))
    assert_within(got, FOCAL.terms(FOCAL, track(x), y, y, LossConfig(gamma=gamma)))


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_varifocal_terms_in_float32_stay_within_their_bound(entropy, gamma):
    x, y = logits(), (np.arange(4000) % 2).astype(np.float32)
    q, iou = (each * y for each in scores())
    got = (np.float32(0.25) * probability(x) ** np.float32(gamma) * (1 - y) + q) * entropy(x, q)
    assert_within(got, VARIFOCAL.terms(VARIFOCAL, track(x), y, iou, LossConfig(gamma=gamma)))


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_class_costs_in_float32_stay_within_their_bound(gamma):
    x, one, tiny = logits(), np.float32(1), np.float32(1e-8)
    p = probability(x)
    positive = np.float32(0.25) * (one - p) ** np.float32(gamma) * -np.log(p + tiny)
    negative = np.float32(0.75) * p ** np.float32(gamma) * -np.log(one - p + tiny)
    expected = focal_class_cost(track(x)[:, None], np.array([0]), MatcherConfig(gamma=gamma))
    assert_within((positive - negative)[:, None], expected)


# Gradients, held against autograd in float32.


def in_torch(*arrays):
    """Float32 tensors; the first takes a gradient."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(np.asarray(each, dtype=np.float32)) for each in arrays]
    tensors[0].requires_grad_()
    return tensors


def giou_in_torch(a, b, by_corners):
    """GIoU of pairs, with areas from corners or from sizes."""
    torch = pytest.importorskip("torch")
    low_a, high_a, low_b, high_b = (box[:, :2] + by * box[:, 2:] / 2 for box in (a, b) for by in (-1, 1))
    inter = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    sizes = (high_a - low_a, high_b - low_b) if by_corners else (a[:, 2:], b[:, 2:])
    union = sizes[0].prod(-1) + sizes[1].prod(-1) - inter + 1e-7
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1) + 1e-7
    return inter / union - (hull - union) / hull


@pytest.mark.parametrize("by_corners", [True, False])
def test_gradients_of_box_losses_by_autograd_in_float32_stay_within_their_bounds(by_corners):
    boxes, wanted = box_pairs()
    losses = DETRLoss(nc=1)._get_loss_bbox(boxes, wanted)
    for key, total in [
        ("loss_bbox", lambda a, b: 5 * (a - b).abs().sum() / len(a)),
        ("loss_giou", lambda a, b: 2 * (1 - giou_in_torch(a, b, by_corners)).sum() / len(a)),
    ]:
        pred, target = in_torch(boxes, wanted)
        loss = total(pred, target)
        loss.backward()
        assert shares(loss.item(), losses[key].value).max() <= 1
        assert_within(pred.grad.numpy(), losses[key].gradients["pred_bboxes"])
        assert np.isfinite(losses[key].gradients["pred_bboxes"].magnitude).mean() > 0.99


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("by_maximum", [True, False])
@pytest.mark.parametrize("kind", ["focal", "varifocal"])
def test_gradients_of_class_losses_by_autograd_in_float32_stay_within_their_bounds(kind, gamma, by_maximum):
    x, y = logits(), (np.arange(4000) % 2).astype(np.float32)
    q, iou = (each * y for each in scores()) if kind == "varifocal" else (y, track(y))
    pred, score, label = in_torch(x, q, y)
    soft = pred.abs().neg().exp().log1p()
    entropy = pred.clamp(min=0) - pred * score + soft if by_maximum else (1 - score) * pred - (pred.clamp(max=0) - soft)
    p = pred.sigmoid()
    truth = p * label + (1 - p) * (1 - label)
    focal = (1 - truth) ** gamma * (0.25 * label + 0.75 * (1 - label))
    weight = 0.25 * p**gamma * (1 - label) + score if kind == "varifocal" else focal
    (weight * entropy).sum().backward()
    term, leaf = VARIFOCAL if kind == "varifocal" else FOCAL, variable(x)
    [expected] = gradients(np.sum(term.terms(term, leaf, y, iou, LossConfig(gamma=gamma))), [leaf])
    # At gamma < 1 autograd of (1 - p_t)^gamma divides by 1 - p_t, which float32 has rounded to 0 in the tails.
    judged = np.isfinite(pred.grad.numpy()) & (np.abs(x) < (10 if gamma < 1 else math.inf))
    assert_within(pred.grad.numpy()[judged], expected[judged])


def small_targets_in_large_boxes(count=500):
    """Their intersection is the target, of whose width rounded corners leave few digits."""
    rng = np.random.default_rng(0)
    targets = np.concatenate([rng.uniform(0.4, 0.6, (count, 2)), 10.0 ** rng.uniform(-3, -2, (count, 2))], axis=1)
    boxes = np.concatenate([rng.uniform(0.48, 0.52, (count, 2)), rng.uniform(0.3, 0.5, (count, 2))], axis=1)
    return boxes.astype(np.float32), targets.astype(np.float32)


def test_what_rounding_does_to_the_corners_of_targets_is_within_the_bounds():
    boxes, targets = small_targets_in_large_boxes()
    x = np.full((len(boxes), 1, 1), 2.0, dtype=np.float32)
    one_each = [(np.array([0]), np.array([image])) for image in range(len(boxes))]
    losses = DETRLoss(nc=1, use_vfl=True)._get_loss(
        boxes[:, None],
        x,
        targets.astype(np.float64),
        np.zeros(len(boxes), dtype=np.int64),
        [1] * len(boxes),
        match_indices=one_each,
    )
    logit, score = in_torch(x[:, 0, 0], overlaps(boxes, targets, area_from_corners, fold=False)["IoU"])
    entropy = (1 - score) * logit - (logit.clamp(max=0) - logit.abs().neg().exp().log1p())
    ((score * entropy).sum() / len(boxes)).backward()
    assert_within(logit.grad.numpy(), losses["loss_class"].gradients["pred_scores"][:, 0, 0])


@pytest.mark.parametrize("options", [{}, {"use_vfl": True}, {"use_fl": False}])
def test_whole_class_losses_in_float32_stay_within_their_bounds(draw_step, options):
    torch = pytest.importorskip("torch")
    step, loss = draw_step(layers=1, gt_groups=(3, 2), queries=300, classes=80), DETRLoss(nc=80, **options)
    boxes, x = (each[0].astype(np.float32) for each in step.plain[:2])
    targets = step.targets[0].astype(np.float32), *step.targets[1:]
    result = loss._get_loss(boxes, x, *targets)["loss_class"]
    (images, queries), chosen = loss._get_index(loss.matcher(boxes, x, *targets))
    y = np.zeros(x.shape)
    y[images, queries, targets[1][chosen]] = 1
    iou = overlaps(boxes[images, queries], targets[0][chosen], area_from_size, fold=True)["IoU"]
    q = y.copy()
    q[images, queries, targets[1][chosen]] = iou
    logit, score, label = in_torch(x, q if options else y, y)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, score, reduction="none")
    p = logit.sigmoid()
    focal = (1 - (p * label + (1 - p) * (1 - label))) ** 1.5 * (0.25 * label + 0.75 * (1 - label))
    weight = {(): focal, ("use_vfl",): 0.25 * p**1.5 * (1 - label) + score, ("use_fl",): 1.0}[tuple(options)]
    total = (weight * entropy).sum() / (300 if "use_fl" in options else 5)
    total.backward()
    assert shares(total.item(), result.value).max() <= 1
    assert_within(logit.grad.numpy(), result.gradients["pred_scores"])
