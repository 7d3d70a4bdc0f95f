"""The bounds on rounding error are honest: float32 stays within them, in every arrangement. Nor are they idle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.reference import (
    Arithmetic,
    DETRLoss,
    FocalLoss,
    HungarianMatcher,
    Tracked,
    VarifocalLoss,
    bbox_iou,
    magnitude,
    track,
)
from detr_conformance.reference.classification import binary_cross_entropy, sigmoid
from detr_conformance.reference.rounding_rules import FLOAT32

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # what an operation on a bound returns, NumPy decides

UNITS = 4.0
"""Roundings granted for each that a bound counts; a port is granted 16."""
SMALLEST = 2.0**-126
"""Below this, float32 loses digits."""


def single(*shape, scale=1.0, seed=0) -> np.ndarray:
    """Random numbers that float32 holds."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def shares(got, expected) -> np.ndarray:
    """Error of float32 over what the bound of the same formula explains; 0 where it explains any error."""
    error = np.abs(np.asarray(got, dtype=np.float64) - expected.values)
    allowed = UNITS * FLOAT32.eps * expected.magnitude + SMALLEST
    return np.where(np.isinf(allowed), 0.0, error / np.where(np.isinf(allowed), 1.0, allowed))


def assert_within(got, expected) -> None:
    """Every error is within its bound, and the worst uses a hundredth of it at least: the bound is not idle.

    Seen: from 0.026 (GIoU) to 0.73 (focal gradients for gamma 3).
    """
    __tracebackhide__ = True
    used = shares(got, expected)
    assert used.max() <= 1, f"{used.max():.3f} of the bound at {np.unravel_index(used.argmax(), used.shape)}"
    assert used.max() >= 0.01, f"the bound is {1 / used.max():.0f} times what happens"


# Single operations. The operands carry errors of their own, as large as their bounds allow.

OPERATIONS = {
    "add": (np.add, 2),
    "subtract": (np.subtract, 2),
    "multiply": (np.multiply, 2),
    "divide": (np.divide, 2),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
    "negative": (np.negative, 1),
    "absolute": (np.absolute, 1),
    "square": (np.square, 1),
    "arctan": (np.arctan, 1),
    "exp": (np.exp, 1),
    "square root": (lambda a: np.sqrt(abs(a)), 1),
    "log": (lambda a: np.log(abs(a) + 0.01), 1),
    "log1p": (lambda a: np.log1p(abs(a)), 1),
    "sign": (np.sign, 1),
    "step": (lambda a: np.heaviside(a, 0.5), 1),
    "to the 0th": (lambda a: abs(a) ** 0, 1),
    "to the power 1/2": (lambda a: abs(a) ** 0.5, 1),
    "to the power 1": (lambda a: abs(a) ** 1.0, 1),
    "to the power 3/2": (lambda a: abs(a) ** 1.5, 1),
    "squared": (lambda a: a**2, 1),
    "to the power 3": (lambda a: abs(a) ** 3.0, 1),
    "sum": (lambda a: np.sum(a, axis=0), 1),
    "where": (lambda a, b: np.where(np.arange(a.shape[-1]) % 2 == 0, a, b), 2),
    "stack": (lambda a, b: np.stack([a, b]), 2),
    "concatenate": (lambda a, b: np.concatenate([a, b], axis=-1), 2),
    "an entry": (lambda a: a[1:, ..., 3], 1),
    "reshape": (lambda a: a.reshape(-1), 1),
}


def uncertain(seed) -> Tracked:
    """Numbers of all scales, many with errors as large as themselves, some exact, some 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(4, 3000)) * 10.0 ** rng.integers(-6, 2, (4, 3000))
    bounds = np.abs(values) * 10.0 ** rng.integers(-3, 8, (4, 3000)) * (rng.random((4, 3000)) < 0.9)
    return Tracked(np.where(rng.random((4, 3000)) < 0.05, 0.0, values), bounds, FLOAT32)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_operation_turns_errors_within_the_bounds_into_one_beyond(operation, sign):
    function, count = operation
    operands = [uncertain(seed) for seed in range(count)]
    expected = function(*operands)
    for draw in range(8):
        signs = np.random.default_rng(draw).choice([-1.0, 1.0], (count, 4, 3000)) if draw else [sign] * count
        moved = [a.values + FLOAT32.reach(a.magnitude) * by for a, by in zip(operands, signs, strict=True)]
        with np.errstate(all="ignore"):
            error = np.abs(function(*moved) - expected.values)
        reach = FLOAT32.reach(expected.magnitude)
        judged = np.isfinite(reach)
        assert (error[judged] <= reach[judged] * (1 + 1e-6)).all()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_on_exact_numbers_is_off_by_its_own_rounding_at_most(operation):
    function, count = operation
    operands = [single(4, 3000, scale=3, seed=seed) for seed in range(count)]
    expected = function(*(track(each) for each in operands))
    assert shares(function(*operands), expected).max() <= 1


EXACT = ("minimum", "maximum", "negative", "absolute", "where", "stack", "concatenate", "an entry", "reshape")


@pytest.mark.parametrize("name", EXACT)
def test_operations_that_do_not_round_add_nothing(name):
    function, count = OPERATIONS[name]
    assert not magnitude(function(*(track(single(4, 30, seed=seed)) for seed in range(count)))).any()


STEPS = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / np.maximum(abs(b), np.float32(0.5)),
    np.maximum,
    lambda a, _: np.exp(-abs(a)),
    lambda a, _: np.log1p(abs(a)),
    lambda a, _: abs(a) ** np.float32(1.5),
    lambda a, b: np.sum(np.stack([a, b, a]), axis=0),
)


def random_formula(rng, operands):
    """A sum, product, quotient, … of random parts, some of them used twice."""
    pool = list(operands)
    for _ in range(8):
        first, second = rng.integers(0, len(pool), 2)
        pool.append(STEPS[rng.integers(len(STEPS))](pool[first], pool[second]))
    return pool[-1]


@pytest.mark.parametrize("seed", range(60))
def test_random_formulas_in_float32_stay_within_their_bounds(seed):
    operands = [single(200, seed=seed * 3 + number) for number in range(3)]
    expected = random_formula(np.random.default_rng(seed), [track(each) for each in operands])
    got = random_formula(np.random.default_rng(seed), operands)
    assert got.dtype == np.float32
    assert shares(got, expected).max() <= 1


# Whole formulas, in the arrangements in which ports write them.


def box_pairs(seed=0, count=4000) -> tuple[np.ndarray, np.ndarray]:
    """Boxes from tiny to large, the second mostly near the first."""
    rng = np.random.default_rng(seed)
    first = np.concatenate([rng.uniform(0, 1, (count, 2)), 10.0 ** rng.uniform(-3, 0, (count, 2))], axis=1)
    second = first + rng.normal(0, 0.3, (count, 4)) * np.tile(first[:, 2:], 2)
    second[:, 2:] = np.abs(second[:, 2:]) + 1e-3
    return first.astype(np.float32), second.astype(np.float32)


def area_from_size(box, _):
    """Width times height of the centre form."""
    return box[:, 2] * box[:, 3]


def area_from_corners(_, corners):
    """The product of differences of corners."""
    return (corners[2] - corners[0]) * (corners[3] - corners[1])


def overlaps(a, b, area, fold) -> dict[str, np.ndarray]:
    """The measures in the arrays' own precision; `fold` chooses the arrangement of the union and of GIoU."""
    eps = a.dtype.type(1e-7)
    ca, cb = ([x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in (a.T, b.T))
    wide, high = (np.maximum(np.minimum(ca[i + 2], cb[i + 2]) - np.maximum(ca[i], cb[i]), 0) for i in (0, 1))
    across, down = (np.maximum(ca[i + 2], cb[i + 2]) - np.minimum(ca[i], cb[i]) for i in (0, 1))
    inter, area_a, area_b = wide * high, area(a, ca), area(b, cb)
    union = area_a + area_b - inter + eps if fold else (area_a - inter) + (area_b + eps)
    hull = across * down + eps
    iou = inter / union
    return {"IoU": iou, "GIoU": iou - (hull - union) / hull if fold else iou + (union / hull - 1)}


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


def logits(count=4000, seed=0) -> np.ndarray:
    """From the middle to where sigmoids saturate."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=count) * rng.choice([0.1, 3.0, 30.0], count)).astype(np.float32)


def scores() -> tuple[np.ndarray, Tracked]:
    """IoUs in float32, and as the reference has them: quotients, which are off by a rounding at least."""
    part, whole = np.abs(single(2, 4000))
    return part / (part + whole), track(part) / (track(part) + track(whole))


def entropy_by_maximum(x, q):
    """Cross-entropy as most textbooks stabilise it."""
    return np.maximum(x, 0) - x * q + np.log1p(np.exp(-np.abs(x)))


def entropy_by_log_sigmoid(x, q):
    """Cross-entropy as PyTorch evaluates it."""
    return (1 - q) * x - (np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))


ENTROPIES = [entropy_by_maximum, entropy_by_log_sigmoid]


def probability(x):
    """The sigmoid without a case distinction; overflow of exp gives 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_cross_entropy_in_float32_stays_within_its_bound(entropy):
    x, (q, iou) = logits(), scores()
    assert_within(entropy(x, q), binary_cross_entropy(track(x), iou))


def test_sigmoids_in_float32_stay_within_their_bound():
    assert_within(probability(logits()), sigmoid(track(logits())))


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_focal_terms_in_float32_with_one_minus_p_by_subtraction_stay_within_their_bound(entropy, gamma):
    x, y = logits(), (np.arange(4000) % 2).astype(np.float32)
    p = probability(x)
    truth = p * y + (1 - p) * (1 - y)
    got = entropy(x, y) * (1 - truth) ** np.float32(gamma) * (np.float32(0.25) * y + np.float32(0.75) * (1 - y))
    assert_within(got, FocalLoss(gamma, 0.25).terms(track(x), y))


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_varifocal_terms_in_float32_stay_within_their_bound(entropy, gamma):
    x, y = logits(), (np.arange(4000) % 2).astype(np.float32)
    q, iou = (each * y for each in scores())
    got = (np.float32(0.25) * probability(x) ** np.float32(gamma) * (1 - y) + q) * entropy(x, q)
    assert_within(got, VarifocalLoss(gamma, 0.25).terms(track(x), iou, y))


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_class_costs_in_float32_stay_within_their_bound(gamma):
    x, one, tiny = logits(), np.float32(1), np.float32(1e-8)
    p = probability(x)
    positive = np.float32(0.25) * (one - p) ** np.float32(gamma) * -np.log(p + tiny)
    negative = np.float32(0.75) * p ** np.float32(gamma) * -np.log(one - p + tiny)
    expected = HungarianMatcher(gamma=gamma).focal_class_cost(track(x)[:, None], np.array([0]))
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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
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
    varifocal = VarifocalLoss(gamma, 0.25).slopes(track(x), iou, y)
    expected = varifocal if kind == "varifocal" else FocalLoss(gamma, 0.25).slopes(track(x), y)
    # At gamma < 1 autograd of (1 - p_t)^gamma divides by 1 - p_t, which float32 has rounded to 0 in the tails.
    judged = np.isfinite(pred.grad.numpy()) & (np.abs(x) < (10 if gamma < 1 else math.inf))
    assert_within(pred.grad.numpy()[judged], expected[judged])


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


# What the bounds say.


def test_the_bound_of_a_sum_is_one_and_the_levels_of_a_pairwise_summation_times_its_absolute_terms():
    terms = single(64)
    assert np.sum(track(terms)).magnitude == pytest.approx((1 + math.log2(64)) * np.abs(terms.astype(float)).sum())
    table = np.sum(track(single(3, 8, 5)), axis=1)
    assert table.magnitude == pytest.approx(4 * np.abs(single(3, 8, 5).astype(float)).sum(axis=1))


def test_bounds_of_terms_are_passed_on_by_a_sum():
    terms = Tracked(np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0]))
    assert np.sum(terms).magnitude == 10.0


def test_the_bounds_of_sums_products_and_functions_are_those_of_the_docstring():
    a, b = Tracked([3.0], [5.0]), Tracked([2.0], [7.0])
    assert (a + b).magnitude == pytest.approx(5 + 7 + 5)
    assert (a * b).magnitude == pytest.approx(2 * 5 + 3 * 7 + 6, rel=1e-5)
    assert np.exp(a).magnitude == pytest.approx(math.exp(3) * 5 + math.exp(3), rel=1e-4)


def test_a_difference_of_close_numbers_keeps_the_errors_of_both():
    a = track([1.0]) / 3.0
    assert (a - 1 / 3).values == 0
    assert (a - 1 / 3).magnitude == pytest.approx(1 / 3)


def test_inputs_are_exact_and_the_copy_is_our_own():
    values = np.array([1.0, 2.0])
    tracked = track(values)
    tracked[0] = 5.0
    assert values.tolist() == [1.0, 2.0]
    assert not track(values).magnitude.any()


def test_what_is_tracked_already_keeps_its_bound():
    assert track(Tracked([1.0], [3.0])).magnitude == 3.0


def test_the_arithmetic_decides_how_far_a_jump_is_open():
    near = [1e-6, 1e-3, 1.0]
    coarse, fine = (np.sign(track(near, Arithmetic(eps=eps)) - 0.5 + 0.5) for eps in (2.0**-7, 2.0**-52))
    assert np.isinf(coarse.magnitude).tolist() == [True, True, False]
    assert not np.isinf(fine.magnitude).any()


@pytest.mark.parametrize(
    "operation",
    [
        np.sin,
        np.cumsum,
        np.prod,
        np.max,
        np.mean,
        np.sort,
        np.linalg.norm,
        lambda a: a @ a,
        lambda a: np.dot(a, a),
        lambda a: np.add(a, 1.0, out=a),
        np.multiply.reduce,
        lambda a: np.sum(a, where=a > 0),
        lambda a: np.einsum("i,i->", a, a),
        lambda a: a.max(),
        lambda a: a.__iadd__(1.0),
        lambda a: 1.0 // a,
    ],
)
def test_an_operation_without_a_rule_is_refused(operation):
    with pytest.raises(TypeError, match="no rounding rule for numpy"):
        operation(track([1.0, 2.0]))


def test_questions_about_values_have_plain_answers():
    a = track([1.0, math.nan])
    for answer in (a > 0, a == 1, np.isnan(a), np.isfinite(a)):
        assert type(answer) is np.ndarray
        assert answer.dtype == bool
