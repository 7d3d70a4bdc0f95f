"""Every Triton kernel equals the plain function that it stands for: on CUDA, or by Triton's interpreter."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from detr_conformance.optimized import RTDETRDetectionLoss, rtdetr_loss
from detr_conformance.optimized.backends.choice import backend_for
from detr_conformance.optimized.backends.torch.backend import TorchBackend
from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses
from detr_conformance.optimized.normaliser import Normaliser
from detr_conformance.optimized.options import UNSCALED, ClassOptions, CostOptions
from detr_conformance.optimized.targets import Pairs, Targets

from ..thorough import thorough_but
from .steps import KINDS, assert_same, step

pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
# The interpreter's arithmetic is NumPy's, which warns of what comes of NaN and infinity.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|divide by zero|overflow):RuntimeWarning")
TORCH = TorchBackend()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float64]
EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def kernels():
    return backend_for(torch.device(DEVICE), "triton")


def assert_near(got, expected, tolerance):
    __tracebackhide__ = True
    got, expected = got.double().cpu(), expected.double().cpu()
    assert torch.equal(got.isnan(), expected.isnan())
    apart = (got - expected).abs() / expected.abs().clamp(min=1e-30)
    assert float(torch.where(got == expected, 0.0, apart).nan_to_num(0.0).max()) <= tolerance


QUICK = [  # the interpreter takes a second for a step: each kind, each dtype and each shortage of queries once
    ("focal", 6, torch.float32),
    ("varifocal", 2, torch.float16),
    ("bce", 6, torch.bfloat16),
    ("focal", 2, torch.float64),
]


@pytest.mark.parametrize(
    ("kind", "queries", "dtype"),
    thorough_but(QUICK, product(KINDS, (6, 2), (torch.float16, torch.bfloat16, *DTYPES))),
    ids=str,
)
def test_the_whole_loss_with_enough_queries_and_with_more_targets(kind, queries, dtype):
    example = step(queries=queries, dtype=dtype)
    on_device = step(queries=queries, dtype=dtype, device=DEVICE)
    ours = RTDETRDetectionLoss(4, **KINDS[kind], backend="triton")
    assert_same(on_device, ours, example, RTDETRDetectionLoss(4, **KINDS[kind]), 16 * EPS[dtype])


LAYOUTS = {
    "gaps between images": lambda each: torch.cat([each, each], dim=2)[:, :, : each.shape[2]],
    "gaps between queries": lambda each: torch.cat([each, each], dim=3)[..., : each.shape[3]],
    "numbers of all queries together": lambda each: each.mT.contiguous().mT,
    "images before layers": lambda each: each.transpose(0, 1).contiguous().transpose(0, 1),
}


QUICK_LAYOUTS = list(zip(("focal", "varifocal", "bce", "focal"), LAYOUTS, strict=True))


@pytest.mark.parametrize(("kind", "layout"), thorough_but(QUICK_LAYOUTS, product(KINDS, LAYOUTS)))
def test_predictions_in_any_layout(kind, layout):
    on_device = step(device=DEVICE)
    views = on_device.with_predictions(LAYOUTS[layout])
    assert not any(each.is_contiguous() for each in views.predictions)
    ours = RTDETRDetectionLoss(4, **KINDS[kind], backend="triton")
    assert_same(views, ours, step(), RTDETRDetectionLoss(4, **KINDS[kind]), 16 * EPS[torch.float32])


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 1.5, 2.0, 3.7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_background_at_every_magnitude_of_a_logit(gamma, dtype):
    steps = [torch.linspace(-60, 60, 241), torch.tensor([-1e4, 1e4, -0.0])]
    logits = torch.cat(steps).to(DEVICE, dtype).view(1, 1, 1, -1)
    targets = torch.full((1, 1, 1), logits.shape[-1], device=DEVICE)
    scores = torch.zeros((1, 1, 1), device=DEVICE)
    options = ClassOptions("focal", gamma, 0.75, 0.25)
    _, got = kernels().class_terms(logits, targets, scores, options, UNSCALED)
    _, exact = TORCH.class_terms(logits.double().cpu(), targets.cpu(), scores.cpu(), options, UNSCALED)
    # Far below 0 a power of p has the rounding of p as often as the exponent says.
    assert_near(torch.where(exact.to(DEVICE) < 1e-37, exact.to(DEVICE), got), exact, 16 * (1 + gamma) * EPS[dtype])


def test_non_finite_logits_stay_visible():
    logits = torch.tensor([[-math.inf, 0.0], [math.inf, 0.0], [math.nan, 0.0]], device=DEVICE).view(3, 1, 1, 2)
    targets, scores = torch.full((3, 1, 1), 2, device=DEVICE), torch.zeros((3, 1, 1), device=DEVICE)
    options = ClassOptions("focal", 1.5, 0.75, 0.25)
    sums, _ = kernels().class_terms(logits, targets, scores, options, None)
    expected, _ = TORCH.class_terms(logits.cpu(), targets.cpu(), scores.cpu(), options, None)
    sums = sums.sum(1)
    assert_near(sums, expected.sum(1), 16 * EPS[torch.float32])
    assert [math.isfinite(each) for each in sums.tolist()] == [True, False, False]


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("kind", ["focal", "varifocal", "bce"])
def test_a_gradient_scaler_sees_an_infinite_logit_of_a_target(kind, backend):
    logits = torch.tensor([[math.inf, 0.0], [-math.inf, 0.0], [2.0, 0.0]], device=DEVICE).view(1, 1, 3, 2)
    targets, scores = torch.zeros((1, 1, 3), dtype=torch.int64), torch.full((1, 1, 3), 0.5)
    compute = {"torch": TORCH, "triton": kernels()}[backend].class_terms
    _, grads = compute(logits, targets.to(DEVICE), scores.to(DEVICE), ClassOptions(kind, 1.5, 0.75, 0.25), UNSCALED)
    finite = grads.view(3, 2).isfinite().all(dim=1).tolist()
    assert finite == ([True, True, True] if kind == "bce" else [False, False, True])


@pytest.mark.parametrize("use_fl", [True, False], ids=["focal", "softmax"])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_cost(use_fl, gamma, dtype):
    example = step(dtype=dtype, groups=0)
    boxes, scores = (each.detach() for each in example.predictions)
    targets = Targets(example.batch["bboxes"].double(), example.batch["cls"], tuple(example.batch["gt_groups"]))
    moved = Targets(targets.boxes.to(DEVICE, dtype), targets.classes.to(DEVICE), targets.counts)
    options = CostOptions(2.0, 5.0, 2.0, use_fl, 0.25, gamma)
    got = kernels().costs(boxes.to(DEVICE), scores.to(DEVICE), moved, options)
    exact = TORCH.costs(boxes.double(), scores.double(), targets, options)
    # Terms of up to 10 or so may cancel.
    assert float((got.cpu() - exact).abs().max()) <= 64 * EPS[dtype]


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_the_cost_of_a_hull_without_extent(backend):
    """A box turned inside out around a target without width: what is divided by is exactly eps, and a cost of 10^6."""
    # In 2^-25: to the last digit, for whether an identity rounds depends on it.
    box = torch.tensor([22712916, 15676651, -10310759, 19242298], device=DEVICE).view(1, 1, 1, 4) / 2**25
    target = torch.tensor([[20638398, 18146868, 0, 14130762]], device=DEVICE) / 2**25
    options = CostOptions(0.0, 0.0, 1.0, use_fl=True, alpha=0.25, gamma=2.0)
    got, exact = (
        backend_for(torch.device(DEVICE), backend).costs(
            box.to(dtype), box.new_zeros(1, 1, 1, 1, dtype=dtype), _one_target(target.to(dtype)), options
        )
        for dtype in DTYPES
    )
    assert_near(got, exact, 16 * EPS[torch.float32])


def _one_target(box):
    return Targets(box, torch.zeros(1, dtype=torch.int64, device=DEVICE), (1,))


BOXES = {
    "apart": ((0.2, 0.2, 0.1, 0.1), (0.7, 0.6, 0.2, 0.3)),
    "crossing": ((0.4, 0.4, 0.3, 0.2), (0.5, 0.45, 0.25, 0.35)),
    "inside": ((0.5, 0.5, 0.1, 0.2), (0.52, 0.48, 0.6, 0.7)),
    "turned inside out": ((0.5, 0.5, -0.1, 0.2), (0.52, 0.48, 0.6, 0.7)),
    "not a number": ((math.nan, 0.5, 0.1, 0.2), (0.52, 0.48, 0.6, 0.7)),
    "infinite": ((math.inf, 0.5, 0.1, 0.2), (0.52, 0.48, 0.6, 0.7)),
    "without area": ((0.5, 0.5, 0.0, 0.0), (0.52, 0.48, 0.6, 0.7)),
}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_terms_of_a_pair(name, dtype):
    pred, target = (torch.tensor(box, dtype=dtype, device=DEVICE) for box in BOXES[name])
    got, expected = (
        backend.matched_terms(pred.to(device).view(1, 1, 1, 4), *one_pair(target, device), 2)
        for backend, device in ((kernels(), DEVICE), (TORCH, "cpu"))
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert_near(ours, theirs, 64 * EPS[dtype])


def one_pair(target, device):
    """A target, and its pairing with the only query."""
    first = torch.zeros((1, 1), dtype=torch.int64, device=device)
    return Targets(target.to(device)[None], first[0], (1,)), Pairs(first, first)


PAIRS = 300
"""More than one program takes."""


def many_pairs(device, dtype):
    draw = torch.Generator().manual_seed(0)
    boxes = torch.rand((2, 4, 200, 4), generator=draw).add(0.1).to(device, dtype)
    of_targets = torch.rand((PAIRS, 4), generator=draw).add(0.1).to(device, dtype)
    classes = torch.randint(7, (PAIRS,), generator=draw).to(device)
    rows = torch.stack([torch.randperm(800, generator=draw)[:PAIRS] for _ in range(2)]).to(device)
    own = torch.stack([torch.randperm(PAIRS, generator=draw) for _ in range(2)]).to(device)
    return boxes, Targets(of_targets, classes, (75,) * 4), Pairs(rows, own)


SHARED = pytest.mark.parametrize("shared", [False, True], ids=["pairs of each layer", "the same pairs in all"])


@SHARED
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_terms_of_many_pairs(dtype, shared):
    got, expected = (matched(backend, device, dtype, shared) for backend, device in both())
    assert got.distance.shape[1] > 1, "more than one program for each layer"
    for name in ("distance", "apart"):
        assert_near(getattr(got, name).sum(1), getattr(expected, name).sum(1), 64 * EPS[dtype])
    assert torch.equal(got.labels.cpu().long(), expected.labels)
    assert_near(got.scores.cpu()[expected.labels < 7], expected.scores[expected.labels < 7], 64 * EPS[dtype])
    assert float((got.grad_apart.cpu() - expected.grad_apart).abs().max()) <= 256 * EPS[dtype]
    assert torch.equal(got.grad_distance.cpu(), expected.grad_distance)


def both():
    return (kernels(), DEVICE), (TORCH, "cpu")


def matched(backend, device, dtype, shared):
    boxes, targets, pairs = many_pairs(device, dtype)
    pairs = Pairs(pairs.rows[:1], pairs.targets[:1]).in_layers(2) if shared else pairs
    return backend.matched_terms(boxes, targets, pairs, 7)


ARRIVING = {
    "all": (1.0, 1.0, 1.0, 1.0),
    "of the main layer": (2.0, 0.5, None, None),
    "of the other layers": (None, None, -1.0, 3.0),
    "of one loss": (None, 1.0, None, 1.0),
    "of one sum": (None, None, None, 0.25),
}


@SHARED
@pytest.mark.parametrize("name", ARRIVING)
@pytest.mark.parametrize("dtype", [torch.float16, *DTYPES], ids=str)
def test_the_derivatives_in_the_place_of_their_queries(name, dtype, shared):
    got, expected = (grads(backend, device, ARRIVING[name], dtype, shared) for backend, device in both())
    assert got.dtype == expected.dtype == dtype
    assert float((got.cpu() - expected).abs().max()) <= 4 * EPS[dtype] * float(expected.abs().max())


def grads(backend, device, arriving, dtype, shared):
    """By grads of which those of nobody's loss are no numbers."""
    boxes, _, pairs = many_pairs(device, dtype)
    pairs = Pairs(pairs.rows[:1], pairs.targets[:1]).in_layers(2) if shared else pairs
    exact = torch.promote_types(dtype, torch.float32)
    draw = torch.Generator().manual_seed(1)
    of_pairs = [torch.randn((2, PAIRS, 4), generator=draw).to(device, exact) for _ in range(2)]
    for place, factor in enumerate(arriving):
        if factor is None:
            of_pairs[place % 2][slice(-1) if place > 1 else -1] = math.nan
    given = OfBoxLosses(
        *(None if each is None else torch.tensor(each, dtype=exact, device=device) for each in arriving)
    )
    return backend.grad_boxes(*of_pairs, (0.7, 0.1), given, pairs, boxes.shape, dtype)


def test_the_derivatives_of_a_query_that_is_named_twice_are_added():
    rows = torch.tensor([[2, 2]], device=DEVICE)
    ones = torch.ones((1, 2, 4), device=DEVICE)
    arriving = OfBoxLosses(ones[0, 0, 0], ones[0, 0, 0], None, None)
    got = kernels().grad_boxes(
        ones, ones, (1.0, 0.5), arriving, Pairs(rows, rows), torch.Size((1, 1, 3, 4)), ones.dtype
    )
    assert got[0, 0].tolist() == [[0.0] * 4, [0.0] * 4, [3.0] * 4]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("pair_parts", [0, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_totals(layers, pair_parts, dtype):
    draw = torch.Generator().manual_seed(0)
    sums = [torch.rand((layers, parts), generator=draw).to(dtype) for parts in (3000, pair_parts, pair_parts)]
    weights = (1 / 3, 0.1)  # which no float32 is
    got = kernels().totals(*(each.to(DEVICE) for each in sums), weights)
    expected = TORCH.totals(*(each.double() for each in sums), weights)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == dtype
        assert_near(ours, theirs, 16 * EPS[dtype])


def test_a_weight_may_be_known_to_the_device_alone():
    sums = [torch.ones((2, 3), device=DEVICE) for _ in range(3)]
    weights = (torch.tensor(0.25, dtype=torch.float64, device=DEVICE), 2.0)
    assert [each.item() for each in kernels().totals(*sums, weights)] == [3.0, 0.75, 6.0] * 2


QUICK_WEIGHTS = list(zip(KINDS, (torch.float32, torch.float16, torch.float64), strict=True))


@pytest.mark.parametrize(
    ("kind", "dtype"), thorough_but(QUICK_WEIGHTS, product(KINDS, (torch.float16, *DTYPES))), ids=str
)
def test_the_whole_loss_with_weights_that_processes_agreed_on(kind, dtype, monkeypatch):
    def agreed(pairs, device, *_):
        return [Normaliser(torch.tensor(count / 3, dtype=torch.float64, device=device), 3) for count in pairs]

    monkeypatch.setattr(rtdetr_loss, "normalisers", agreed)
    on_device, example = step(dtype=dtype, device=DEVICE), step(dtype=dtype)
    ours = RTDETRDetectionLoss(4, **KINDS[kind], backend="triton")
    assert_same(on_device, ours, example, RTDETRDetectionLoss(4, **KINDS[kind]), 16 * EPS[dtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("factors", [(2.0, 0.0), (0.0, -0.5), (1.0, 1.0)], ids=str)
def test_scaling_leaves_out_what_nobody_asked_for(dtype, factors):
    grads = torch.tensor([[1.0, 2.0], [math.nan, 3.0], [math.nan, 4.0]], device=DEVICE).to(dtype)
    expected = grads.clone().cpu()
    given = tuple(torch.tensor(each, dtype=torch.promote_types(dtype, torch.float32)) for each in factors)
    kernels().scale_layers(grads, tuple(each.to(DEVICE) for each in given))
    TORCH.scale_layers(expected, given)
    assert torch.equal(grads.cpu().nan_to_num(9.0), expected.nan_to_num(9.0))
    main, auxiliary = factors
    assert (main != 0) or not expected[-1].any()
    assert (auxiliary != 0) or not expected[:-1].any()
