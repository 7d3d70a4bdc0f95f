"""The losses of each layer apart, on every backend: values, gradients by layer, and what nobody asked for."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from detr_conformance.optimized.by_layer import Queries, Recipe, cost_options, matched
from detr_conformance.optimized.targets import Targets

from ..thorough import thorough_but

# The interpreter's arithmetic is NumPy's, which warns of what comes of NaN and infinity.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|divide by zero|overflow):RuntimeWarning")
GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
COSTS = cost_options({"class": 2.0, "bbox": 5.0, "giou": 2.0}, use_fl=True, alpha=0.25, gamma=2.0)
LAYERS, QUERIES, CLASSES, COUNTS = 3, 17, 6, (4, 0, 2)
EPS = 2.0**-23
KINDS = ("varifocal", "focal", "bce", "mal")


@pytest.fixture(params=["torch", "native", "triton"])
def backend(request):
    pytest.importorskip({"torch": "torch", "native": "numba", "triton": "triton"}[request.param])
    return request.param


def drawn(seed=0):
    """Predictions in float32, and targets."""
    generator = torch.Generator().manual_seed(seed)
    shape = LAYERS, len(COUNTS), QUERIES
    logits = torch.randn(*shape, CLASSES, generator=generator)
    boxes = torch.cat(
        [torch.rand(*shape, 2, generator=generator), 0.1 + 0.4 * torch.rand(*shape, 2, generator=generator)], -1
    )
    labels = torch.randint(CLASSES, (sum(COUNTS),), generator=generator)
    own = torch.cat(
        [torch.rand(sum(COUNTS), 2, generator=generator), 0.1 + 0.3 * torch.rand(sum(COUNTS), 2, generator=generator)],
        -1,
    )
    return Queries(boxes, logits), Targets(own, labels, COUNTS)


def outcome(queries, targets, recipe, pairs, weights):
    """Losses by layer, and the gradient of their sum with these weights; 0 asks for nothing."""
    leaves = Queries(*(each.detach().clone().requires_grad_() for each in queries))
    losses = recipe.losses(leaves, targets, pairs, 6.0)
    asked = [
        weight * loss
        for of_layer, own in zip(losses, weights, strict=True)
        for loss, weight in zip(of_layer, own, strict=True)
        if weight
    ]
    gradients = torch.autograd.grad(sum(asked), leaves, allow_unused=True, materialize_grads=True)
    return torch.stack([torch.stack(list(each)) for each in losses]).detach(), gradients


def exact(queries, targets, recipe, pairs, weights):
    """The same in plain torch and float64."""
    doubled = Targets(targets.boxes.double(), targets.classes, targets.counts)
    plain = Recipe(recipe.classification, recipe.alpha, recipe.gamma, recipe.gains, "torch")
    return outcome(Queries(*(each.double() for each in queries)), doubled, plain, pairs, weights)


WEIGHTS = {
    "ones": [[1.0, 1.0, 1.0]] * LAYERS,
    "one for each": [[0.5, 2.0, -1.0], [1.5, 0.25, 3.0], [1024.0, 1.0, 0.125]],
    "some": [[0.0, 2.0, 0.0], [1.5, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "boxes": [[0.0, 1.0, 1.0]] * LAYERS,
    "classes": [[0.25, 0.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]],
}


EVERY_ONE = [(*each, "one for each") for each in product(KINDS, (0.5, 1.5, 2.0))]
OF_VARIFOCAL = [("varifocal", 2.0, each) for each in WEIGHTS]


@pytest.mark.parametrize(
    ("kind", "gamma", "weights"), thorough_but([*EVERY_ONE[1::3], *OF_VARIFOCAL[2:]], [*EVERY_ONE, *OF_VARIFOCAL])
)
def test_values_and_gradients_of_every_layer(kind, gamma, weights, backend):
    queries, targets = drawn()
    recipe = Recipe(kind, 0.75, gamma, GAINS, backend)
    pairs = matched(queries, targets, COSTS, backend)
    given = queries, targets, recipe, pairs, WEIGHTS[weights]
    losses, gradients = outcome(*given)
    expected, wanted = exact(*given)
    assert ((losses - expected).abs() <= 16 * EPS * expected.abs()).all()
    for own, other in zip(gradients, wanted, strict=True):
        for layer in range(LAYERS):
            assert (own[layer] - other[layer]).abs().max() <= 64 * EPS * other[layer].abs().max()


def test_a_layer_that_nobody_asked_for_adds_nothing_also_where_it_is_nan(backend):
    queries, targets = drawn()
    recipe = Recipe("varifocal", 0.75, 2.0, GAINS, backend)
    pairs = matched(queries, targets, COSTS, backend)
    queries.pred_bboxes[1], queries.pred_scores[1] = math.nan, math.nan
    _, gradients = outcome(queries, targets, recipe, pairs, [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    for each in gradients:
        assert torch.isfinite(each).all()
        assert not each[1].any()
        assert each[0].any()
        assert each[2].any()


@pytest.mark.parametrize("kind", ["varifocal", "mal"])
def test_a_constant_weight_leaves_the_gradient_of_an_infinite_background_logit_finite(kind, backend):
    queries, targets = drawn()
    recipe = Recipe(kind, 0.75, 2.0, GAINS, backend)
    pairs = matched(queries, targets, COSTS, backend)
    queries.pred_scores[0, 1, 3, 2] = math.inf  # image 1 has no target
    losses, (_, of_logits) = outcome(queries, targets, recipe, pairs, WEIGHTS["ones"])
    assert losses[0, 0] == math.inf
    background = 0.75 if kind == "varifocal" else 1.0
    assert of_logits[0, 1, 3, 2].item() == pytest.approx(background / 6.0, rel=4 * EPS), "p^gamma is 1, and so is p"


def test_nothing_is_added_to_areas(backend):
    queries, targets = drawn()
    tiny = Queries(queries.pred_bboxes * 2.0**-9, queries.pred_scores)
    of_tiny = Targets(targets.boxes * 2.0**-9, targets.classes, targets.counts)
    recipe = Recipe("varifocal", 0.75, 2.0, GAINS, backend)
    pairs = matched(queries, targets, COSTS, backend)
    losses = [outcome(*given, recipe, pairs, WEIGHTS["ones"])[0] for given in ((queries, targets), (tiny, of_tiny))]
    for term in (0, 2):
        assert torch.equal(losses[0][:, term], losses[1][:, term]), "IoU and GIoU depend on no scale"


def test_a_query_whose_cost_is_not_finite_comes_last(backend):
    queries, targets = drawn()
    queries.pred_scores[:, :, : QUERIES - 4] = math.nan
    pairs = matched(queries, targets, COSTS, backend)
    of_first = pairs.rows[:, : COUNTS[0]]
    assert (of_first >= QUERIES - 4).all(), "four queries have costs, and there are four targets"


def test_backends_choose_the_same_pairs(backend):
    queries, targets = drawn(1)
    got, expected = matched(queries, targets, COSTS, backend), matched(queries, targets, COSTS, "torch")
    assert torch.equal(got.rows, expected.rows)
