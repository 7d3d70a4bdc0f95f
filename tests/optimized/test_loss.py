"""The loss on every kind of tensor that a trainer may hand it, and what autograd makes of it."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, RTDETRDetectionLoss

from .steps import KINDS, assert_same, step

EPS = torch.finfo(torch.float32).eps


@pytest.fixture(params=KINDS)
def loss(request):
    return RTDETRDetectionLoss(4, **KINDS[request.param])


@pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls
@pytest.mark.parametrize("queries", [3, 1], ids=["enough queries", "more targets than queries"])
def test_the_gradient_is_the_derivative(loss, queries):
    example = step((2, 1), layers=2, groups=1, dtype=torch.float64, queries=queries)
    boxes, scores, dn_boxes, dn_scores = example.predictions

    def by_logits(scores, dn_scores):
        return tuple(
            loss((boxes.detach(), scores), example.batch, dn_boxes.detach(), dn_scores, example.dn_meta).values()
        )

    def by_boxes(boxes, dn_boxes):  # the IoU of a target score is a constant, so the class loss is left out
        losses = loss((boxes, scores.detach()), example.batch, dn_boxes, dn_scores.detach(), example.dn_meta)
        return tuple(losses[key] for key in losses if "class" not in key)

    assert torch.autograd.gradcheck(by_logits, (scores, dn_scores))
    assert torch.autograd.gradcheck(by_boxes, (boxes, dn_boxes))


@pytest.mark.parametrize("kept", [slice(0, 1), slice(1, 2), slice(None)], ids=["of boxes", "of logits", "of all"])
def test_a_second_derivative_is_refused(loss, kept):
    example = step()
    total = sum(example(loss).values())
    first = torch.autograd.grad(total, example.predictions[kept], create_graph=True)
    assert all(each.requires_grad for each in first)
    with pytest.raises(RuntimeError, match="the loss can be differentiated once"):
        torch.autograd.grad(sum(each.sum() for each in first), example.predictions[kept])


def test_a_retained_graph_gives_the_same_gradient_again(loss):
    example = step()
    total = sum(example(loss).values())
    first, second = (torch.autograd.grad(total * 3, example.predictions, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_of_single_losses_add_up(loss):
    example = step()
    losses = example(loss)
    sums = [torch.zeros_like(each) for each in example.predictions]
    for each in losses.values():
        parts = torch.autograd.grad(each, example.predictions, retain_graph=True, allow_unused=True)
        sums = [total if part is None else total + part for total, part in zip(sums, parts, strict=True)]
    for total, expected in zip(sums, example.gradients(loss), strict=True):
        assert torch.allclose(total, expected, rtol=8 * EPS, atol=EPS)


@pytest.mark.parametrize(("key", "unused"), [("loss_bbox", 1), ("loss_giou_aux", 1), ("loss_class", 0)])
def test_what_a_loss_does_not_depend_on_gets_no_gradient(loss, key, unused):
    example = step()
    part = torch.autograd.grad(example(loss)[key], example.predictions, allow_unused=True)
    assert part[unused] is None
    assert part[1 - unused].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_with_as_float32(loss, dtype):
    halves = step(dtype=dtype)
    same_numbers = halves.with_predictions(torch.Tensor.float)
    assert all(each.dtype == torch.float32 for each in halves(loss).values())
    assert all(torch.equal(halves(loss)[key], each) for key, each in same_numbers(loss).items())
    for got, exact in zip(halves.gradients(loss), same_numbers.gradients(loss), strict=True):
        assert got.dtype == dtype
        assert torch.allclose(got, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def test_a_gradient_too_small_for_float16_survives_a_gradient_scaler(loss):
    example = step(dtype=torch.float16).with_predictions(lambda each: each - 12 if each.shape[-1] == 4 else each)
    scaled = torch.autograd.grad(2.0**16 * sum(example(loss).values()), example.predictions)
    exact = example.with_predictions(torch.Tensor.float).gradients(loss)
    for got, wanted in zip(scaled, exact, strict=True):
        assert torch.allclose(got.float(), (wanted * 2.0**16).half().float(), rtol=2**-9, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(loss, dtype):
    example = step()
    plain = example(loss)
    with torch.autocast("cpu", dtype):
        cast = example(loss)
        gradients = example.gradients(loss)
    assert all(torch.equal(cast[key], plain[key]) for key in plain)
    assert all(torch.equal(a, b) for a, b in zip(gradients, example.gradients(loss), strict=True))


def spread(tensor):
    """The same numbers as a view of a larger tensor, with gaps along every axis."""
    larger = torch.zeros([2 * size + 1 for size in tensor.shape], dtype=tensor.dtype)
    view = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


def turned(tensor):
    """The same numbers with the last axis the slowest in memory."""
    return tensor.movedim(-1, 0).contiguous().movedim(0, -1)


@pytest.mark.parametrize("layout", [spread, turned])
def test_the_layout_in_memory_does_not_matter(loss, layout):
    example = step()
    view = example.with_predictions(layout)
    assert not any(each.is_contiguous() for each in view.predictions)
    assert_same(view, loss, example, loss, 4 * EPS)


def test_predictions_split_off_along_the_queries_are_not_copied(loss):
    example = step()
    boxes, scores, dn_boxes, dn_scores = example.predictions
    slots = dn_boxes.shape[2]
    both = [torch.cat(pair, dim=2) for pair in ((dn_boxes, boxes[1:]), (dn_scores, scores[1:]))]
    (dn_boxes, boxes), (dn_scores, scores) = (each.split([slots, boxes.shape[2]], dim=2) for each in both)
    losses = loss((boxes, scores), example.batch, dn_boxes, dn_scores, example.dn_meta)
    copies = [each.clone() for each in (boxes, scores, dn_boxes, dn_scores)]
    expected = loss(tuple(copies[:2]), example.batch, *copies[2:], example.dn_meta)
    assert all(torch.allclose(losses[key], expected[key], rtol=4 * EPS) for key in losses)


def test_expanded_predictions_are_accepted(loss):
    example = step(groups=0).with_predictions(lambda each: each[:1].expand(each.shape))
    copies = example.with_predictions(torch.Tensor.clone)
    assert_same(example, loss, copies, loss, 4 * EPS)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_mode_there_are_losses_and_no_graph(loss, mode):
    example = step()
    expected = example(loss)
    with mode():
        got = example(loss)
    assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert not any(each.requires_grad for each in got.values())


def test_frozen_boxes_leave_the_gradient_of_the_logits(loss):
    example = step(groups=0)
    boxes, scores = example.predictions
    losses = loss((boxes.detach(), scores), example.batch)
    (gradient,) = torch.autograd.grad(sum(losses.values()), [scores])
    assert torch.equal(gradient, example.gradients(loss)[1])


def test_losses_can_be_scaled_in_place(loss):
    example = step()
    expected = torch.autograd.grad(2 * sum(example(loss).values()), example.predictions)
    losses = example(loss)
    for each in losses.values():
        each.mul_(2)
    got = torch.autograd.grad(sum(losses.values()), example.predictions)
    assert all(torch.allclose(a, b, rtol=8 * EPS, atol=EPS) for a, b in zip(got, expected, strict=True))


def test_a_batch_without_targets_is_connected_to_every_prediction(loss):
    example = step((0, 0), groups=0)
    boxes, scores = example.gradients(loss)
    assert not boxes.any()
    assert scores.any()


def test_denoising_losses_are_zeros_in_the_graph_where_there_are_no_denoising_queries(loss):
    example = step(groups=0)
    losses = {key: each for key, each in example(loss).items() if key.endswith("_dn")}
    assert len(losses) == 6
    assert all(each == 0 and each.requires_grad for each in losses.values())


def test_two_losses_of_one_object_do_not_disturb_each_other(loss):
    first, second = step(), step((1, 2, 4))
    both = first(loss), second(loss)
    gradients = torch.autograd.grad(sum(both[0].values()), first.predictions)
    assert all(torch.equal(a, b) for a, b in zip(gradients, first.gradients(loss), strict=True))


def test_a_blocked_pass_equals_an_unblocked_one(loss, monkeypatch):
    from detr_conformance.optimized.backends.torch import classification, costs

    example = step()
    expected = example(loss), example.gradients(loss)
    monkeypatch.setattr(classification, "BLOCK", 7)
    monkeypatch.setattr(costs, "BLOCK", 13)
    got = example(loss), example.gradients(loss)
    assert all(torch.allclose(got[0][key], expected[0][key], rtol=8 * EPS) for key in got[0])
    assert all(torch.allclose(a, b, rtol=8 * EPS, atol=EPS) for a, b in zip(got[1], expected[1], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_batch_agrees_with_float64(kind):
    loss = RTDETRDetectionLoss(80, **KINDS[kind])
    large = step((40, 0, 7, 100), layers=3, queries=300, classes=80, groups=1, dtype=torch.float64)
    assert_same(large.with_predictions(torch.Tensor.float), loss, large, loss, 1e-5)


def test_detr_loss_is_the_part_without_denoising():
    example = step(groups=0)
    boxes, scores = example.predictions
    expected = example(RTDETRDetectionLoss(4))
    got = DETRLoss(4)(boxes, scores, example.batch, postfix="_x")
    assert list(got) == [f"{key}_x" for key in expected if not key.endswith("_dn")]
    assert all(torch.equal(got[f"{key}_x"], expected[key]) for key in expected if not key.endswith("_dn"))
