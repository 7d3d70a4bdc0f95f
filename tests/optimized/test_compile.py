"""`torch.compile` of a caller: no graph break, no recompilation for every batch, the same numbers."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, RTDETRDetectionLoss

from .steps import KINDS, step

pytestmark = [
    pytest.mark.usefixtures("shapes_unchecked"),  # the tracer cannot look into the checks
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # torch's own
]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


def compiled(loss):
    """A training step around the loss, traced as a whole; `aot_eager` needs no C++ compiler."""

    def train(predictions, batch, dn_meta):
        boxes, scores, *denoising = (each * 1.5 for each in predictions)
        return loss((boxes, scores), batch, *denoising, dn_meta=dn_meta)

    return torch.compile(train, backend="aot_eager", fullgraph=True)


def outcome(train, example):
    losses = train(example.predictions, example.batch, example.dn_meta)
    return losses, torch.autograd.grad(sum(losses.values()), example.predictions)


def assert_traced_like_called(train, loss, example):
    __tracebackhide__ = True
    losses, gradients = outcome(train, example)
    larger = example.with_predictions(lambda each: each * 1.5)
    assert all(torch.allclose(losses[key], each, rtol=8 * EPS) for key, each in larger(loss).items())
    for got, expected in zip(gradients, larger.gradients(loss), strict=True):
        assert got.dtype == expected.dtype
        tolerance = 1e-2 if got.element_size() == 2 else 1e-6
        assert torch.allclose(got.float(), 1.5 * expected.float(), rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [0, 2])
def test_a_traced_loss_equals_a_called_one(kind, groups):
    loss = RTDETRDetectionLoss(4, **KINDS[kind])
    assert_traced_like_called(compiled(loss), loss, step(groups=groups))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_in_every_precision(dtype):
    loss = RTDETRDetectionLoss(4, use_vfl=True)
    assert_traced_like_called(compiled(loss), loss, step(dtype=dtype))


def test_other_counts_of_targets_do_not_compile_again_and_again():
    loss = RTDETRDetectionLoss(4)
    train = compiled(loss)
    for counts in (
        (3, 0, 2),
        (4, 0, 2),
        (2, 0, 5),
        (6, 0, 3),
        (5, 0, 4),
        (2, 0, 2),
        (7, 0, 3),
    ):  # torch tells 0, 1 and more apart
        assert_traced_like_called(train, loss, step(counts, groups=1))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_auxiliary_losses_left_out():
    loss = RTDETRDetectionLoss(4, aux_loss=False)
    assert_traced_like_called(compiled(loss), loss, step())


def test_given_pairs():
    example, loss = step(groups=0), DETRLoss(4)
    pairs = [(torch.tensor([1, 2, 5]), torch.tensor([2, 0, 1])), (torch.tensor([], dtype=torch.int64),) * 2]
    pairs.append((torch.tensor([0, 3]), torch.tensor([3, 4])))
    traced = torch.compile(loss, backend="aot_eager", fullgraph=True)
    got, expected = (each(*example.predictions, example.batch, match_indices=pairs) for each in (traced, loss))
    assert all(torch.allclose(got[key], expected[key], rtol=8 * EPS) for key in expected)


def test_bad_input_is_refused_when_it_runs():
    example = step(groups=0)
    example.batch["cls"][0] = 9
    with pytest.raises(ValueError, match="expected a class from 0 to 3"):
        compiled(RTDETRDetectionLoss(4))(example.predictions, example.batch, None)


def later(loss):
    """Options that are set after the caller was compiled."""
    loss.loss_gain["class"] = 3.0
    loss.fl.gamma = loss.vfl.gamma = 3.0
    loss.vfl.alpha = 0.6
    loss.matcher.cost_gain["bbox"] = 0.5


def test_options_are_those_of_the_call():
    loss, example = RTDETRDetectionLoss(4, use_vfl=True), step(groups=1)
    train = compiled(loss)
    train(example.predictions, example.batch, example.dn_meta)
    later(loss)
    assert_traced_like_called(train, loss, example)
    loss.vfl = None
    assert_traced_like_called(train, loss, example)


def test_a_subclass_that_overrides_nothing_is_one_operator_too():
    loss = type("Sub", (RTDETRDetectionLoss,), {})(4)
    assert_traced_like_called(compiled(loss), loss, step(groups=1))


@pytest.mark.parametrize("part", ["_get_loss_class", "a hook"])
def test_what_a_user_replaces_takes_effect_with_a_graph_break(part):
    calls, loss, example = [], RTDETRDetectionLoss(4), step(groups=1)
    if part == "a hook":
        loss.matcher.register_forward_hook(lambda *_: calls.append(1))
    else:
        original = loss._get_loss_class
        loss._get_loss_class = lambda *given: calls.append(1) or original(*given)
    train = torch.compile(lambda: example(loss), backend="aot_eager")
    losses, expected = train(), example(RTDETRDetectionLoss(4))
    assert calls
    assert all(torch.allclose(losses[key], expected[key], rtol=1e-6) for key in expected)


def test_a_learnt_gain_gets_its_gradient():
    loss, example = RTDETRDetectionLoss(4), step(groups=1)
    gain = loss.loss_gain["giou"] = torch.nn.Parameter(torch.tensor(2.0))
    losses = compiled(loss)(example.predictions, example.batch, example.dn_meta)
    sum(losses.values()).backward()
    of_giou = sum(loss.detach() for key, loss in losses.items() if "giou" in key)
    assert torch.allclose(gain.grad, of_giou / 2.0)
