"""What numba compiles equals plain torch, and torch takes its place where there is no numba."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from detr_conformance.optimized import HungarianMatcher, RTDETRDetectionLoss
from detr_conformance.optimized.backends.choice import backend_for
from detr_conformance.optimized.backends.torch.backend import TorchBackend
from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses
from detr_conformance.optimized.options import UNSCALED, ClassOptions, CostOptions
from detr_conformance.optimized.targets import Pairs, Targets

from ..thorough import thorough_but
from .steps import KINDS, assert_same, step

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed")
TORCH = TorchBackend()
CPU = torch.device("cpu")
ULP = 2.0**-24
"""Half the distance of float32's numbers next to 1: what one rounding costs."""
HALVES = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
WIDE = np.concatenate([-np.geomspace(1e-30, 110, 4000), [0.0, -87.4, -103.9, -104.1, -1e30, -np.inf]]).astype(
    np.float32
)


def native():
    return backend_for(CPU, "native")


@pytest.fixture
def every_thread(monkeypatch):
    """Any work is worth another thread."""
    from detr_conformance.optimized.backends.native import jit

    monkeypatch.setattr(jit, "PER_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def vectorised(function, arguments, results=1):
    """Apply what is compiled into loops to each number of some arrays."""
    import numba

    @numba.njit
    def loop(out, *given):
        for at in range(out.shape[1]):
            answers = function(given[0][at]) if len(given) == 1 else function(given[0][at], given[1])
            if results == 1:
                out[0, at] = answers
            else:
                for which in range(results):
                    out[which, at] = answers[which]

    out = np.empty((results, len(arguments[0])), np.float32)
    loop(out, *arguments)
    return out.astype(np.float64)


def assert_near(got, expected, ulps, least=2.0**-148):
    """Within so many roundings of float32, or two of its smallest steps."""
    __tracebackhide__ = True
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert (np.isnan(got) == np.isnan(expected)).all()
    apart = np.abs(got - expected)[got != expected]
    allowed = (ulps * ULP * np.abs(expected) + least)[got != expected]
    assert not (apart > allowed).any(), (apart / allowed).max()


@needs_numba
def test_exp_is_right_to_two_roundings():
    from detr_conformance.optimized.backends.native.arithmetic import exp_of_negative

    assert_near(vectorised(exp_of_negative, [WIDE])[0], np.exp(WIDE.astype(np.float64)), 2)
    assert np.isnan(vectorised(exp_of_negative, [np.array([np.nan], np.float32)])).all()


@needs_numba
def test_log_is_right_to_three_roundings():
    from detr_conformance.optimized.backends.native.arithmetic import log

    x = np.geomspace(1e-30, 1.0001, 5000).astype(np.float32)
    assert_near(vectorised(log, [x])[0], np.log(x.astype(np.float64)), 3)


@needs_numba
def test_the_logistic_keeps_its_digits_on_either_side():
    from detr_conformance.optimized.backends.native.arithmetic import logistic

    x = np.concatenate([WIDE[:-2], -WIDE[:-2]])
    exact = x.astype(np.float64)
    e = np.exp(-np.abs(exact))
    smaller, larger = e / (1 + e), 1 / (1 + e)
    p, rest = np.where(exact < 0, smaller, larger), np.where(exact < 0, larger, smaller)
    for got, expected in zip(vectorised(logistic, [x], 3), (p, rest, np.log1p(e)), strict=True):
        assert_near(got, expected, 6)


@needs_numba
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0, 7.5])
def test_any_power_is_right_to_two_roundings_for_each_unit_of_its_exponent(gamma):
    import numba

    from detr_conformance.optimized.backends.native.arithmetic import logistic, power

    @numba.njit
    def of_logit(x, gamma):
        return power(x, logistic(x)[2], gamma)

    x = np.concatenate([-np.geomspace(1e-3, 85 / max(gamma, 1), 3000), np.geomspace(1e-3, 60, 3000)]).astype(np.float32)
    exact = x.astype(np.float64)
    expected = np.exp(-gamma * (np.maximum(-exact, 0) + np.log1p(np.exp(-np.abs(exact)))))
    assert_near(vectorised(of_logit, [x, gamma])[0], expected, 5 + 2 * gamma)


def classes_to_judge(layers=2, images=3, queries=40, classes=70, seed=0):
    """More logits than a block has, a target in every fifth query, and logits that are special."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, images, queries, classes, generator=generator) * 6
    labels = torch.full((layers, images, queries), classes)
    labels[..., ::5] = torch.randint(classes, labels[..., ::5].shape, generator=generator)
    return logits, labels, torch.rand(layers, images, queries, generator=generator)


@needs_numba
@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("kind", ["focal", "varifocal", "bce"])
def test_classification_equals_float64(kind, gamma):
    options = ClassOptions(kind, gamma, 0.3, 0.7)
    logits, labels, scores = classes_to_judge()
    got = native().class_terms(logits, labels, scores, options, (2.0, -3.0))
    expected = TORCH.class_terms(logits.double(), labels, scores.double(), options, (2.0, -3.0))
    assert_near(got.sums.double().sum(1), expected.sums.sum(1), 4)
    is_target = labels[..., None] == torch.arange(logits.shape[-1])
    assert_near(got.grads[~is_target], expected.grads[~is_target], 24, least=2.0**-145)  # products of subnormal numbers
    # IoU and probability may be near each other; their difference has lost digits before it is taken.
    assert_near(got.grads[is_target], expected.grads[is_target], 16, least=2.0**-22)


@needs_numba
@pytest.mark.parametrize("kind", ["focal", "varifocal", "bce"])
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf, 1e4, -1e4, 100.0])
@pytest.mark.parametrize("is_target", [False, True])
def test_a_special_logit_is_what_it_is_in_torch(kind, special, is_target):
    options = ClassOptions(kind, 0.0 if kind == "bce" else 1.5, 0.3, 0.7)
    logits, labels, scores = classes_to_judge(layers=1, images=1, queries=5, classes=3)
    logits[0, 0, 0, int(labels[0, 0, 0]) if is_target else (int(labels[0, 0, 0]) + 1) % 3] = special
    got = native().class_terms(logits, labels, scores, options, UNSCALED)
    expected = TORCH.class_terms(logits, labels, scores, options, UNSCALED)
    total, expected_total = got.sums.sum(), expected.sums.sum()
    assert total.isfinite() == expected_total.isfinite()  # whether it is NaN or infinite is left open
    assert not total.isfinite() or torch.allclose(total, expected_total, rtol=1e-6)
    assert torch.allclose(got.grads, expected.grads, rtol=1e-5, atol=1e-7, equal_nan=True)


@needs_numba
@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_read_and_written_and_never_computed_with(dtype):
    options, (logits, labels, scores) = ClassOptions("varifocal", 1.5, 0.3, 0.7), classes_to_judge()
    got = native().class_terms(logits.to(dtype), labels, scores, options, (1024.0, 1.0))
    exact = native().class_terms(logits.to(dtype).float(), labels, scores, options, (1024.0, 1.0))
    assert got.grads.dtype == dtype
    assert torch.equal(got.sums, exact.sums)
    assert torch.equal(got.grads, exact.grads.to(dtype))


LAYOUTS = {
    "the last queries of more": lambda x: torch.cat([x, x], 2)[:, :, x.shape[2] :],
    "classes first in memory": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "images first in memory": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "a negated view": lambda x: torch._neg_view(-x),
}


@needs_numba
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_in_memory_means_nothing(layout):
    options, (logits, labels, scores) = ClassOptions("focal", 2.0, 0.3, 0.7), classes_to_judge()
    got = native().class_terms(LAYOUTS[layout](logits), labels, scores, options, UNSCALED)
    expected = native().class_terms(logits, labels, scores, options, UNSCALED)
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


@needs_numba
def test_one_layer_for_all_is_read_again_and_again():
    options, (logits, labels, scores) = ClassOptions("focal", 2.0, 0.3, 0.7), classes_to_judge()
    expanded = logits[:1].expand(logits.shape)
    got = native().class_terms(expanded, labels, scores, options, UNSCALED)
    expected = native().class_terms(expanded.contiguous(), labels, scores, options, UNSCALED)
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


def targets_to_match(counts=(3, 0, 9, 1), queries=7, classes=5, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(sum(counts), 4, generator=generator) * 0.4 + 0.2
    labels = torch.randint(classes, (sum(counts),), generator=generator)
    pred = torch.rand(layers, len(counts), queries, 4, generator=generator) * 0.4 + 0.2
    return pred, torch.randn(*pred.shape[:3], classes, generator=generator) * 4, Targets(boxes, labels, counts)


@needs_numba
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.3])
def test_costs_equal_float64(gamma):
    pred, logits, targets = targets_to_match()
    options = CostOptions(2.0, 5.0, 2.0, True, 0.25, gamma)
    exact = Targets(targets.boxes.double(), targets.classes, targets.counts)
    expected = TORCH.costs(pred.double(), logits.double(), exact, options)
    got = native().costs(pred, logits, targets, options).double()
    assert ((got - expected).abs() / expected.abs().clamp(min=1)).max() < 2e-6


@needs_numba
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.3])
def test_costs_are_finite_where_those_of_torch_are(special, gamma):
    pred, logits, targets = targets_to_match()
    options = CostOptions(2.0, 5.0, 2.0, True, 0.25, gamma)
    pred[0, 0, 1, 2], logits[1, 2, 3] = special, special
    got, expected = (each.costs(pred, logits, targets, options) for each in (native(), TORCH))
    assert torch.equal(got.isfinite(), expected.isfinite())
    assert torch.allclose(got[got.isfinite()], expected[got.isfinite()], atol=1e-5)


@needs_numba
@pytest.mark.parametrize("use_fl", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_the_matching_has_the_least_cost_of_its_own_costs(dtype, use_fl):
    for seed in range(20):
        pred, logits, targets = targets_to_match(seed=seed)
        pred, logits = pred.to(dtype), logits.to(dtype)
        boxes = targets.boxes.to(torch.promote_types(dtype, torch.float32))
        given = (
            pred,
            logits,
            Targets(boxes, targets.classes, targets.counts),
            CostOptions(2.0, 5.0, 2.0, use_fl, 0.25, 2.0),
        )
        costs = native().costs(*given)
        got, expected = native().assign(*given), TORCH.assign(*given)
        assert torch.equal(got < 0, expected < 0) or (got < 0).sum() == (expected < 0).sum()
        assert _total(costs, got) == pytest.approx(_total(costs, expected), rel=1e-5, abs=1e-5)


def _total(costs, query_of_target):
    chosen = costs.double().gather(2, query_of_target.clamp(min=0)[..., None]).squeeze(2)
    return float(chosen[query_of_target >= 0].sum())


@needs_numba
def test_matched_pairs_equal_float64():
    pred, logits, targets = targets_to_match(counts=(3, 0, 5, 1))
    rows = (
        TORCH.assign(pred, logits, targets, CostOptions(2.0, 5.0, 2.0, True, 0.25, 2.0))
        + targets.images * pred.shape[2]
    )
    pairs = Pairs(rows, torch.arange(len(targets.classes)).expand_as(rows))
    exact = Targets(targets.boxes.double(), targets.classes, targets.counts)
    got, expected = (
        each.matched_terms(p, t, pairs, 5) for each, p, t in ((native(), pred, targets), (TORCH, pred.double(), exact))
    )
    assert torch.equal(got.labels, expected.labels)
    assert_near(got.distance.sum(1), expected.distance.sum(1), 2)
    assert_near(got.apart.sum(1), expected.apart.sum(1), 2)
    for name in ("grad_distance", "grad_apart", "scores"):
        assert_near(getattr(got, name), getattr(expected, name), 4, least=1e-7)
    arriving = OfBoxLosses(torch.tensor(2.0), None, torch.tensor(0.5), torch.tensor(-3.0))
    slopes = (got.grad_distance, got.grad_apart, (5.0, 2.0), arriving, pairs, pred.shape, torch.float32)
    assert_near(native().grad_boxes(*slopes), TORCH.grad_boxes(*slopes), 2)


@needs_numba
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", [0.2, 0.5, 0.9])
def test_what_is_not_finite_in_a_box_is_lost_nowhere(number, special, at):
    pred, _, targets = targets_to_match(counts=(1,), queries=1, layers=1)
    pred[..., :2], pred[..., number] = at, special
    pairs = Pairs(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))
    got, expected = (each.matched_terms(pred, targets, pairs, 5) for each in (native(), TORCH))
    for name in ("distance", "apart", "scores", "grad_distance", "grad_apart"):
        one, other = getattr(got, name), getattr(expected, name)
        assert torch.equal(one.isnan(), other.isnan()), name
        assert torch.allclose(one, other, rtol=1e-5, equal_nan=True), name


QUICK = [("focal", torch.float32), ("varifocal", torch.bfloat16), ("bce", torch.float32)]


@needs_numba
@pytest.mark.parametrize(
    ("kind", "dtype"), thorough_but(QUICK, product(KINDS, (torch.float32, torch.float64, *HALVES))), ids=str
)
@pytest.mark.parametrize("queries", [6, 2])
def test_the_whole_loss_equals_that_of_plain_torch(kind, dtype, queries):
    losses = [RTDETRDetectionLoss(nc=4, **KINDS[kind], backend=backend) for backend in ("native", "torch")]
    own, other = step(dtype=dtype, queries=queries), step(dtype=dtype, queries=queries)
    tolerance = HALVES.get(dtype, 2.0**-20 if dtype == torch.float32 else 2.0**-45)
    assert_same(own, losses[0], other, losses[1], 2 * tolerance)


@needs_numba
def test_threads_change_no_bit(every_thread):
    answers = []
    for threads in (1, 4, 1, 3):
        every_thread(threads)
        example = step((5, 0, 3, 9, 1, 2, 7), queries=30, classes=90)
        losses, grads = example.outcome(RTDETRDetectionLoss(nc=90, use_vfl=True, backend="native"))
        answers.append([*losses.values(), *grads])
    for other in answers[1:]:
        assert all(torch.equal(*pair) for pair in zip(answers[0], other, strict=True))


@needs_numba
@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_dtype_of_torch_means_nothing(default):
    example, loss = step(), RTDETRDetectionLoss(nc=4, use_vfl=True, backend="native")
    losses, grads = example.outcome(loss)
    torch.set_default_dtype(default)
    try:
        others, other_grads = example.outcome(loss)
    finally:
        torch.set_default_dtype(torch.float32)
    assert others == losses
    assert all(each.dtype == torch.float32 for each in others.values())
    assert all(torch.equal(*pair) for pair in zip(grads, other_grads, strict=True))


@needs_numba
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_a_nan_in_a_box_is_in_its_gradient_whatever_the_gain(gain):
    def outcome(backend):
        example = step(groups=0)
        spoiled = example.with_predictions(lambda each: each * torch.nan if each.shape[-1] == 4 else each)
        gains = {"class": 1.0, "bbox": gain, "giou": gain}
        loss = RTDETRDetectionLoss(nc=4, loss_gain=gains, backend=backend)
        return spoiled.outcome(loss)[1]

    got, expected = outcome("native"), outcome("torch")
    assert expected[0].isnan().any()
    assert all(torch.equal(one.isnan(), other.isnan()) for one, other in zip(got, expected, strict=True))


@needs_numba
def test_a_box_that_is_right_has_nearly_no_gradient():
    boxes = torch.rand(1, 1, 200, 4, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.005
    labels, own = torch.zeros(200, dtype=torch.int64), torch.arange(200)[None]
    got, exact = (
        each.matched_terms(given, Targets(given[0, 0], labels, (200,)), Pairs(own, own), 1)
        for each, given in ((native(), boxes), (TORCH, boxes.double()))
    )
    assert (got.grad_apart - exact.grad_apart).abs().max() < 1e-5 * exact.grad_apart.abs().max()


@needs_numba
@pytest.mark.parametrize(("agents", "tasks"), [(300, 300), (100, 300)])
def test_where_all_cost_the_same_no_search_is_needed(agents, tasks):
    from detr_conformance.optimized.backends.native.assignment import _bid

    costs, free = np.ones((agents, tasks)), (np.full(agents, -1), np.full(tasks, -1))
    assert len(_bid(np.arange(agents), costs, *free, np.zeros(tasks))) == 0


@needs_numba
def test_numba_is_chosen_where_it_is_installed():
    assert type(backend_for(CPU, None)) is type(native())


@needs_numba
def test_what_numba_compiles_runs_on_the_cpu_alone():
    with pytest.raises(RuntimeError, match="backend is 'native' and costs are on cuda, expected costs on the CPU"):
        backend_for(torch.device("cuda"), "native", "costs")


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from detr_conformance.optimized import DETRLoss, HungarianMatcher, linear_sum_assignment
batch = {"bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]]), "cls": torch.tensor([0]), "gt_groups": [1]}
boxes = torch.full((1, 1, 3, 4), 0.5)
assert len(DETRLoss(nc=2)(boxes, torch.zeros(1, 1, 3, 2), batch)) == 6
assert linear_sum_assignment(torch.eye(2)[None]).tolist() == [[1, 0]]
try:
    DETRLoss(nc=2, backend="native")(boxes, torch.zeros(1, 1, 3, 2), batch)
except RuntimeError as error:
    print(error)
"""


def test_torch_takes_its_place_where_there_is_no_numba():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_NUMBA], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("backend is 'native', and numba does not import (")
    assert run.stderr == ""


@needs_numba
def test_nothing_is_kept_where_nothing_may_be_written(monkeypatch):
    import numba

    from detr_conformance.optimized.backends.native.jit import compiled

    njit = numba.njit

    def refusing(function, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refusing)
    assert compiled(lambda x: x + 1)(1) == 2


@needs_numba
def test_a_matcher_on_its_own_uses_it_too():
    pred, logits, targets = targets_to_match(layers=1)
    given = pred[0], logits[0], targets.boxes, targets.classes, list(targets.counts)
    for own, other in zip(
        HungarianMatcher(backend="native")(*given), HungarianMatcher(backend="torch")(*given), strict=True
    ):
        assert all(torch.equal(*pair) for pair in zip(own, other, strict=True))
