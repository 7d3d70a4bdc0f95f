"""The loss on CUDA: the numbers of the CPU, a host that never waits, graphs, compilation, half precision.

The assignment alone is in `test_assignment_kernel`, the denoising generator in `test_denoising_cuda`.
"""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss

from .steps import KINDS, Step, step
from .waiting import no_waiting

pytestmark = pytest.mark.cuda
DEVICE = "cuda"

SHAPES = {
    "small": {},
    "without denoising": {"groups": 0},
    "more targets than queries": {"queries": 2},
    "no target": {"counts": (0, 0), "groups": 0},
    "one layer": {"layers": 1, "groups": 0},
    "large": {"counts": (40, 0, 7, 100), "queries": 300, "classes": 80, "groups": 1},
}
OPTIONS = KINDS | {"one matching": {"use_uni_match": True}, "main layer": {"aux_loss": False}}
HALVES = [torch.float16, torch.bfloat16]

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
kinds = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


def loss_for(shape, options, **more):
    return RTDETRDetectionLoss(shape.get("classes", 4), **options, **more)


def outcome(example, loss):
    """Losses and gradients."""
    losses = example(loss)
    return losses, torch.autograd.grad(sum(losses.values()), example.predictions)


def assert_near(got, expected, name):
    """Equal but for sums taken in another order, and for the last digit of a half."""
    __tracebackhide__ = True
    assert got.dtype == expected.dtype
    eps = torch.finfo(got.dtype).eps
    tolerance = 128 * min(eps, 2.0**-23) + (2 * eps if got.dtype in HALVES else 0)
    got, expected = (each.detach().cpu().double() for each in (got, expected))
    apart, scale = (got - expected).abs().max(), expected.abs().max()
    assert apart <= tolerance * scale, f"{name} is off by {apart} of {scale}"


def assert_same(got, expected):
    """Two outcomes agree in every loss and every gradient."""
    __tracebackhide__ = True
    assert list(got[0]) == list(expected[0])
    for key in got[0]:
        assert_near(got[0][key], expected[0][key], key)
    for place, (ours, theirs) in enumerate(zip(got[1], expected[1], strict=True)):
        assert_near(ours, theirs, f"gradient {place}")


@shapes
@every_option
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=str)
def test_losses_and_gradients_are_those_of_the_cpu(shape, options, dtype):
    loss = loss_for(shape, options)
    got, expected = (outcome(step(**shape, dtype=dtype, device=device), loss) for device in (DEVICE, "cpu"))
    assert_same(got, expected)


@kinds
def test_plain_torch_gives_the_same(options):
    got = outcome(step(device=DEVICE), loss_for({}, options, backend="torch"))
    assert_same(got, outcome(step(), loss_for({}, options)))


@kinds
def test_predictions_with_gaps_between_them(options):
    loss, example = loss_for({}, options), step(device=DEVICE)
    views = example.with_predictions(lambda each: torch.cat([each, each], dim=2)[:, :, : each.shape[2]])
    assert not any(each.is_contiguous() for each in views.predictions)
    assert_same(outcome(views, loss), outcome(example, loss))


@pytest.mark.parametrize("use_fl", [True, False], ids=["focal", "softmax"])
@pytest.mark.parametrize("queries", [300, 20])
def test_the_matcher_finds_the_pairs_of_the_cpu(use_fl, queries):
    pairs = []
    for device in (DEVICE, "cpu"):
        example = step((40, 0, 7), queries=queries, layers=1, groups=0, device=device)
        (boxes, scores), batch = example.predictions, example.batch
        pairs.append(HungarianMatcher(use_fl=use_fl)(boxes[0], scores[0], *(batch[key] for key in TARGETS)))
    for got, expected in zip(*pairs, strict=True):
        assert [row.tolist() for row in got] == [row.tolist() for row in expected]


TARGETS = ("bboxes", "cls", "gt_groups")


@shapes
@every_option
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_host_never_waits(shape, options, dtype):
    example, loss = step(**shape, dtype=dtype, device=DEVICE), loss_for(shape, options)
    outcome(example, loss)  # compiles the kernels
    with no_waiting():
        outcome(example, loss)


def test_the_host_does_not_wait_for_other_counts_either():
    loss = RTDETRDetectionLoss(4)
    outcome(step(device=DEVICE), loss)
    other = step((1, 5, 2), device=DEVICE)
    with no_waiting():
        outcome(other, loss)


def test_the_host_does_not_wait_for_given_pairs():
    example, matcher, loss = step(groups=0, device=DEVICE), HungarianMatcher(), DETRLoss(4)
    (boxes, scores), batch = example.predictions, example.batch
    with no_waiting():
        pairs = matcher(boxes[-1], scores[-1], *(batch[key] for key in TARGETS))
        given = loss(boxes, scores, batch, match_indices=pairs)
    # The loss has a matcher with gains of its own, so only the numbers of pairs are the same.
    assert all(loss.isfinite() for loss in given.values())


@pytest.mark.skipif(not dist.is_available(), reason="this build of torch has no processes that talk")
@pytest.mark.filterwarnings("ignore::UserWarning")  # NCCL's own
def test_the_host_does_not_wait_for_other_processes(tmp_path):
    if not dist.is_nccl_available():
        pytest.skip("this build of torch has no NCCL")
    dist.init_process_group("nccl", store=dist.FileStore(str(tmp_path / "store")), rank=0, world_size=1)
    try:
        example, loss = step(device=DEVICE), RTDETRDetectionLoss(4, process_group=dist.group.WORLD)
        expected = outcome(example, RTDETRDetectionLoss(4))
        assert_same(outcome(example, loss), expected)  # makes the connections
        with no_waiting():
            outcome(example, loss)
    finally:
        dist.destroy_process_group()


def captured(example, loss):
    """A graph of forward and backward pass, and what each replay overwrites."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        outcome(example, loss)  # compiles the kernels and sends the counts
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = outcome(example, loss)
    return graph, results


def turned_round(example):
    """Other numbers of the same shapes: the queries and the targets in the opposite order."""
    turned = example.with_predictions(lambda each: each.flip(2))
    batch = example.batch | {key: example.batch[key].flip(0) for key in ("cls", "bboxes")}
    return Step(turned.predictions, batch, example.dn_meta)


@every_option
@pytest.mark.parametrize("shape", [each for each in SHAPES if each != "one layer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_replayed_graph_gives_the_numbers_of_a_call(options, shape, dtype):
    example, loss = step(**SHAPES[shape], dtype=dtype, device=DEVICE), loss_for(SHAPES[shape], options)
    other = turned_round(example)
    graph, results = captured(example, loss)
    for each in (other, step(**SHAPES[shape], dtype=dtype, device=DEVICE)):
        with torch.no_grad():
            for static, new in zip(example.predictions, each.predictions, strict=True):
                static.copy_(new)
            for key in ("cls", "bboxes"):
                example.batch[key].copy_(each.batch[key])
        graph.replay()
        assert_same(results, outcome(each, loss))


@kinds
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.usefixtures("shapes_unchecked")  # the tracer cannot look into the checks
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
def test_a_traced_loss_equals_a_called_one(options, backend):
    torch.compiler.reset()
    loss = loss_for({}, options)
    traced = torch.compile(loss, backend=backend, fullgraph=True)
    for groups in (0, 2):
        example = step(groups=groups, device=DEVICE)
        assert_same(outcome(example, traced), outcome(example, loss))


@kinds
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_step_under_autocast_with_a_gradient_scaler(options, dtype):
    example, loss, scale = step(device=DEVICE), loss_for({}, options), 2.0**10
    weights = [torch.eye(4, device=DEVICE, requires_grad=True) for _ in range(2)]
    optimiser, scaler = torch.optim.SGD(weights, lr=1e-3), torch.amp.GradScaler(DEVICE, init_scale=scale)
    with torch.autocast(DEVICE, dtype):
        predictions = [each.detach() @ weight for each, weight in zip(example.predictions, weights * 2, strict=True)]
        losses = Step(predictions, example.batch, example.dn_meta)(loss)
    scaler.scale(sum(losses.values())).backward()
    scaler.unscale_(optimiser)
    assert {each.dtype for each in predictions} == {dtype}
    assert_near_exact_gradients(weights, example, predictions, loss)
    scaler.step(optimiser)
    scaler.update()
    assert scaler.get_scale() == scale, "a gradient was infinite"


def assert_near_exact_gradients(weights, example, predictions, loss):
    """The weights' gradients are those of the same numbers in float32, but for the rounding of each term."""
    __tracebackhide__ = True
    exact = Step(predictions, example.batch, example.dn_meta).with_predictions(torch.Tensor.float).gradients(loss)
    rows = [each.detach().flatten(0, -2) for each in example.predictions]
    products = [(row, grad.flatten(0, -2)) for row, grad in zip(rows, exact, strict=True)]
    for place, weight in enumerate(weights):
        both = [products[place], products[place + 2]]  # ordinary and denoising queries
        expected = sum(row.T @ grad for row, grad in both)
        terms = sum(row.abs().T @ grad.abs() for row, grad in both)
        eps = torch.finfo(predictions[0].dtype).eps
        assert ((weight.grad - expected).abs() <= 2 * eps * terms).all()


def test_a_class_that_does_not_exist_counts_as_the_nearest_or_is_refused():
    wrong, nearest = step(device=DEVICE), step(device=DEVICE)
    wrong.batch["cls"][:2] = torch.tensor([-7, 99], device=DEVICE)
    nearest.batch["cls"][:2] = torch.tensor([0, 3], device=DEVICE)
    loss = RTDETRDetectionLoss(4)
    assert_same(outcome(wrong, loss), outcome(nearest, loss))
    with pytest.raises(ValueError, match="expected a class from 0 to 3"):
        wrong(RTDETRDetectionLoss(4, validate=True))


def test_indices_out_of_range_never_leave_the_tensors():
    example = step((3, 2), groups=0, device=DEVICE)
    pairs = [(torch.tensor([-(2**40), 5, 2**40]), torch.tensor([0, 2**62, -1])), (torch.tensor([1, 77]),) * 2]
    pairs = [tuple(row.to(DEVICE) for row in pair) for pair in pairs]
    boxes, scores = example.predictions
    losses = DETRLoss(4)(boxes, scores, example.batch, match_indices=pairs)
    torch.autograd.grad(sum(losses.values()), example.predictions)
    torch.cuda.synchronize()  # where an illegal access would show


def test_targets_on_another_device_are_refused():
    example = step(device=DEVICE)
    for key in ("cls", "bboxes"):
        batch = example.batch | {key: example.batch[key].cpu()}
        with pytest.raises(ValueError, match=r"is on cpu, expected cuda:0, where pred_bboxes is"):
            Step(example.predictions, batch, example.dn_meta)(RTDETRDetectionLoss(4))
