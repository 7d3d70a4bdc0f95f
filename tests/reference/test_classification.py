"""Focal, varifocal and cross-entropy terms: in closed form, and with slopes that differences and autograd confirm."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import FocalLoss, LossConfig, Tracked, VarifocalLoss
from detr_conformance.reference.classification import FOCAL, VARIFOCAL, binary_cross_entropy, sigmoid

from .differentiating import DIFFERENCE, entropy_slope, focal_slope, gradient, varifocal_slope

LOGITS = (-7.5, -2.0, -0.3, 0.0, 0.4, 1.5, 6.0)
SCORES = (0.0, 0.2, 0.9, 1.0)
GAMMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
ALPHAS = (-1.0, 0.0, 0.25, 0.75, 1.0)

FLOAT64 = 2.0**-52
STEP = 1e-5


def logistic(x) -> float:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))


def entropy(x, q) -> float:
    """-q log p - (1 - q) log(1 - p), as the definition has it."""
    return -q * math.log(logistic(x)) - (1 - q) * math.log(logistic(-x))


def one(value) -> np.ndarray:
    """One image, one query, one class."""
    return np.full((1, 1, 1), float(value))


def grid(*axes) -> list[np.ndarray]:
    """All combinations, as arrays with one image and one class."""
    return [np.array(column, dtype=float).reshape(1, -1, 1) for column in zip(*product(*axes), strict=True)]


def focal(x, y, gamma, alpha):
    """Focal terms."""
    return FOCAL.terms(FOCAL, x, y, y, LossConfig(gamma=gamma, alpha=alpha))


def varifocal(x, q, y, gamma, alpha):
    """Varifocal terms."""
    return VARIFOCAL.terms(VARIFOCAL, x, y, q, LossConfig(gamma=gamma, alpha=alpha))


def central_difference(terms, x, *others) -> np.ndarray:
    """Slope of elementwise terms, all entries at once."""
    return (terms(x + STEP, *others) - terms(x - STEP, *others)) / (2 * STEP)


@pytest.mark.parametrize("x", LOGITS)
def test_cross_entropy_and_sigmoid_are_their_definitions(x):
    assert sigmoid(one(x)).item() == pytest.approx(logistic(x), rel=1e-14)
    for q in SCORES:
        assert binary_cross_entropy(one(x), one(q)).item() == pytest.approx(entropy(x, q), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("x", "q", "entropy"), [(1000, 0, 1000), (1000, 1, 0), (-1000, 1, 1000), (-1000, 0, 0)])
def test_cross_entropy_does_not_overflow(x, q, entropy):
    assert binary_cross_entropy(one(x), one(q)).item() == entropy


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, ALPHAS)))
def test_a_focal_term_is_its_closed_form(gamma, alpha):
    expected = []
    for x, y in product(LOGITS, (0, 1)):
        truth = logistic(x) if y else logistic(-x)
        balance = 1 if alpha <= 0 else (alpha if y else 1 - alpha)
        expected.append(-balance * (1 - truth) ** gamma * math.log(truth))
    terms = focal(*grid(LOGITS, (0, 1)), gamma, alpha)
    assert terms.ravel() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, (0.0, 0.25, 0.75))))
def test_a_varifocal_term_is_its_closed_form(gamma, alpha):
    expected = []
    for x, q, y in product(LOGITS, SCORES, (0, 1)):
        weight = alpha * logistic(x) ** gamma * (1 - y) + q
        expected.append(weight * entropy(x, q))
    terms = varifocal(*grid(LOGITS, SCORES, (0, 1)), gamma, alpha)
    assert terms.ravel() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_called_on_a_single_logit_they_return_its_term():
    p = logistic(0.4)
    assert float(FocalLoss(2.0, 0.25)(one(0.4), one(1))) == pytest.approx(0.25 * (1 - p) ** 2 * entropy(0.4, 1))
    assert float(VarifocalLoss(2.0, 0.75)(one(0.4), one(0.3), one(1))) == pytest.approx(0.3 * entropy(0.4, 0.3))
    assert float(VarifocalLoss(2.0, 0.75)(one(0.4), one(0), one(0))) == pytest.approx(0.75 * p**2 * entropy(0.4, 0))


def test_a_matched_query_that_does_not_overlap_its_target_has_no_varifocal_loss():
    loss = VarifocalLoss()(one(2.0), one(0.0), one(1))
    assert float(loss) == 0.0
    assert loss.gradients["pred_scores"].item() == 0.0


def test_called_alone_they_have_the_defaults_of_their_papers_in_this_order():
    assert (FocalLoss().gamma, FocalLoss().alpha) == (1.5, 0.25)
    assert (VarifocalLoss().gamma, VarifocalLoss().alpha) == (2.0, 0.75)


def test_the_mean_is_over_queries_and_the_sum_over_images_and_classes():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 3)), rng.integers(0, 2, (2, 5, 3)).astype(float)
    loss, terms = FocalLoss()(x, y), focal(x, y, 1.5, 0.25)
    assert float(loss) == pytest.approx(terms.mean(axis=1).sum(), rel=1e-14)
    assert loss.gradients["pred_scores"].values == pytest.approx(focal_slope(x, y, 1.5, 0.25) / 5, rel=1e-12)


def test_the_slope_of_cross_entropy_is_the_probability_minus_the_score():
    arguments = grid(LOGITS, SCORES)
    slope = gradient(binary_cross_entropy, *arguments).values
    assert slope == pytest.approx(entropy_slope(*arguments), rel=1e-12, abs=1e-15)
    assert np.abs(central_difference(binary_cross_entropy, *arguments) - slope).max() < DIFFERENCE


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, ALPHAS)))
def test_focal_slopes_are_their_closed_form_and_central_differences(gamma, alpha):
    arguments = *grid(LOGITS, (0, 1)), gamma, alpha
    slope = gradient(focal, *arguments).values
    assert slope == pytest.approx(focal_slope(*arguments), rel=1e-11, abs=1e-15)
    assert np.abs(central_difference(focal, *arguments) - slope).max() < DIFFERENCE


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, (0.0, 0.25, 0.75))))
def test_varifocal_slopes_are_their_closed_form_and_central_differences_with_the_weight_differentiated(gamma, alpha):
    arguments = *grid(LOGITS, SCORES, (0, 1)), gamma, alpha
    slope = gradient(varifocal, *arguments).values
    assert slope == pytest.approx(varifocal_slope(*arguments), rel=1e-11, abs=1e-15)
    assert np.abs(central_difference(varifocal, *arguments) - slope).max() < DIFFERENCE


def test_a_slope_with_a_constant_weight_would_be_noticed():
    x, q, y = grid(LOGITS, SCORES, (0, 1))
    constant = (0.75 * sigmoid(x) ** 2 * (1 - y) + q) * entropy_slope(x, q)
    assert np.abs(central_difference(varifocal, x, q, y, 2.0, 0.75) - constant).max() > 1e5 * DIFFERENCE


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, ALPHAS)))
def test_focal_slopes_agree_with_torch_within_the_bound(gamma, alpha):
    torch = pytest.importorskip("torch")
    x, y = grid(np.linspace(-30, 30, 61), (0, 1))
    logits, label = torch.tensor(x, requires_grad=True), torch.tensor(y)
    p = logits.sigmoid()
    truth = p * label + (1 - p) * (1 - label)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    balance = alpha * label + (1 - alpha) * (1 - label) if alpha > 0 else 1.0
    (entropy * (1 - truth) ** gamma * balance).sum().backward()
    assert_close(gradient(focal, x, y, gamma, alpha), logits.grad.numpy())


@pytest.mark.parametrize(("gamma", "alpha"), list(product(GAMMAS, (0.25, 0.75))))
def test_varifocal_slopes_agree_with_torch_within_the_bound(gamma, alpha):
    torch = pytest.importorskip("torch")
    x, q = grid(np.linspace(-30, 30, 61), SCORES)
    y = (q > 0).astype(float)
    logits, score, label = torch.tensor(x, requires_grad=True), torch.tensor(q), torch.tensor(y)
    weight = alpha * logits.sigmoid() ** gamma * (1 - label) + score
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, score, reduction="none")
    (weight * entropy).sum().backward()
    assert_close(gradient(varifocal, x, q, y, gamma, alpha), logits.grad.numpy())


def assert_close(expected: Tracked, got: np.ndarray) -> None:
    """Equal up to 16 roundings of float64 for each that the bound counts."""
    __tracebackhide__ = True
    shares = np.abs(expected.values - got) / (16 * FLOAT64 * expected.magnitude + 1e-300)
    assert shares.max() <= 1, f"{shares.max():.2f} of the budget at logit number {shares.argmax()}"


def test_plain_arrays_get_a_bound_too():
    loss = FocalLoss()(one(2.0), one(0))
    assert 0 < loss.magnitude < 100
    assert loss.gradients["pred_scores"].magnitude.item() > 0


def test_scores_carry_no_gradient():
    assert set(VarifocalLoss()(one(2.0), one(0.5), one(1)).gradients) == {"pred_scores"}
