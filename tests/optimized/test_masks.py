"""Losses and matching costs of masks: equal to the reference, on every kind of tensor, beside the fused path."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from detr_conformance import optimized, reference
from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss
from detr_conformance.optimized.loss_weights import mask_weights
from detr_conformance.optimized.mask_costs import add_mask_costs, draw_points
from detr_conformance.optimized.masks import Masks
from detr_conformance.optimized.normaliser import Normaliser
from detr_conformance.properties import tolerance
from detr_conformance.reference import masks as formulas
from detr_conformance.reference import track

from .steps import step
from .waiting import no_waiting

EPS = torch.finfo(torch.float32).eps
TERMS = ("mask", "dice")
GAINS = {"class": 0.0, "bbox": 0.0, "giou": 0.0, "mask": 1.0, "dice": 2.0}


def masks_for(example, size=(5, 4), gt_size=(9, 12), dtype=None, seed=1):
    """Masks of all queries, as a leaf, and of all targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = example.predictions[1]
    masks = torch.randn(*scores.shape[:3], *size, generator=generator, dtype=torch.float64) * 3
    gt_mask = torch.rand(len(example.batch["cls"]), *gt_size, generator=generator) < 0.4
    leaf = masks.to(scores.device, dtype or scores.dtype).requires_grad_()
    return {"masks": leaf, "gt_mask": gt_mask.to(scores.device)}


def arrays(value):
    """Tensors as arrays, wherever they are; halves and single precision as float64."""
    if isinstance(value, dict):
        return {key: arrays(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [arrays(each) for each in value]
    if not isinstance(value, torch.Tensor):
        return value
    return (value.detach().double() if value.is_floating_point() else value.detach()).numpy()


def judged_in(dtype, name="RTDETRDetectionLoss"):
    """A class of the reference, with error bounds for this precision."""
    return type(name, (getattr(reference, name),), {"arithmetic": tolerance.arithmetic(dtype)})


def assert_within(got, expected, dtype):
    """Within the budget, entry by entry."""
    __tracebackhide__ = True
    shares = tolerance.budget_shares(arrays(got), expected, dtype)
    assert shares.max(initial=0.0) <= 1, f"{shares.max():.3g} budgets"


SHAPES = {
    "plain": {},
    "one layer": {"layers": 1, "groups": 0},
    "more targets than queries": {"queries": 2},
    "no denoising": {"groups": 0},
    "no targets": {"counts": (0, 0), "groups": 0},
}
OPTIONS = {
    "default": {},
    "main layer": {"aux_loss": False},
    "a shared matching": {"use_uni_match": True, "uni_match_ind": 1},
    "gains": {"loss_gain": {"class": 1.0, "bbox": 5.0, "giou": 2.0, "mask": 20.0, "dice": 0.5}},
}
SIZES = [((5, 4), (9, 12)), ((5, 4), (5, 4)), ((8, 9), (4, 3)), ((6, 5), (18, 15)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "gt_size"), SIZES, ids=str)
@pytest.mark.parametrize(
    ("shape", "options"), [*((each, "default") for each in SHAPES), *(("plain", each) for each in OPTIONS)]
)
def test_losses_and_gradients_are_those_of_the_reference(dtype, size, gt_size, shape, options):
    example = step(**SHAPES[shape], dtype=getattr(torch, dtype))
    boxes, scores, *denoising = example.predictions
    given = masks_for(example, size, gt_size)
    losses = RTDETRDetectionLoss(4, **OPTIONS[options])(
        (boxes, scores), example.batch, *denoising, dn_meta=example.dn_meta, **given
    )
    theirs = judged_in(dtype)(4, **OPTIONS[options])
    preds, others = arrays((boxes, scores)), arrays((example.batch, *denoising))
    expected = theirs(tuple(preds), *others, dn_meta=arrays(example.dn_meta), **arrays(given))
    assert list(losses) == list(expected)
    for key in losses:
        assert_within(losses[key], expected[key].value, dtype)
    for key in [key for key in losses if key.startswith(("loss_mask", "loss_dice"))]:
        (by_masks,) = torch.autograd.grad(losses[key], given["masks"], retain_graph=True)
        wanted = expected[key].gradients.get("masks", track(np.zeros(by_masks.shape)))
        assert_within(by_masks, wanted, dtype)
        assert by_masks.any() or not wanted.values.any()


def test_given_pairs_in_any_order_are_those_of_the_reference():
    example = step(groups=0)
    given = masks_for(example)
    pairs = [([5, 1, 2], [1, 2, 0]), ([], []), ([0, 3], [4, 3])]
    matching = [tuple(torch.tensor(row, dtype=torch.int64) for row in pair) for pair in pairs]
    losses = DETRLoss(4)(*example.predictions, example.batch, match_indices=matching, **given)
    theirs = judged_in("float32", "DETRLoss")(4)
    expected = theirs(
        *arrays(example.predictions),
        arrays(example.batch),
        match_indices=[tuple(pair) for pair in arrays(matching)],
        **arrays(given),
    )
    for key, each in losses.items():
        assert_within(each, expected[key].value, "float32")


@pytest.fixture
def example():
    return step(groups=0)


@pytest.fixture
def masks(example):
    return masks_for(example)


def mask_losses(loss, example, **masks):
    """The losses of masks alone."""
    losses = loss(tuple(example.predictions), example.batch, **masks)
    return {key: each for key, each in losses.items() if key.startswith(("loss_mask", "loss_dice"))}


def outcome(example, masks, loss=None):
    """They, and the gradient of their sum."""
    losses = mask_losses(loss or RTDETRDetectionLoss(4), example, **masks)
    return losses, torch.autograd.grad(sum(losses.values()), masks["masks"])[0]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("counts", [(2, 1), (4, 0)])
def test_the_gradient_is_the_derivative(counts):
    example = step(counts, layers=2, queries=3, groups=0, dtype=torch.float64)
    given = masks_for(example, (3, 2), (4, 5))
    loss = RTDETRDetectionLoss(4)
    assert torch.autograd.gradcheck(
        lambda masks: tuple(mask_losses(loss, example, masks=masks, gt_mask=given["gt_mask"]).values()), given["masks"]
    )


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64], ids=str)
def test_0_and_1_of_every_type_are_masks_of_targets(example, masks, kind):
    got = outcome(example, masks | {"gt_mask": masks["gt_mask"].to(kind)})
    assert all(torch.equal(got[0][key], each) for key, each in outcome(example, masks)[0].items())
    assert torch.equal(got[1], outcome(example, masks)[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_computed_with_as_float32(example, dtype):
    halves = masks_for(example, dtype=dtype)
    exact = halves | {"masks": halves["masks"].detach().float().requires_grad_()}
    (losses, by_masks), (wanted, by_exact) = outcome(example, halves), outcome(example, exact)
    assert all(each.dtype == torch.float32 for each in losses.values())
    assert all(torch.equal(losses[key], each) for key, each in wanted.items())
    assert by_masks.dtype == dtype
    assert torch.allclose(by_masks.float(), by_exact.to(dtype).float(), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(example, masks, dtype):
    loss = RTDETRDetectionLoss(4)
    loss.matcher = HungarianMatcher(with_mask=True, num_sample_points=20, generator=torch.Generator())
    expected = outcome(example, masks, copy.deepcopy(loss))
    with torch.autocast("cpu", dtype):
        got = outcome(example, masks, loss)
    assert all(torch.equal(got[0][key], each) for key, each in expected[0].items())
    assert torch.equal(got[1], expected[1])


def test_masks_may_be_views_with_gaps(example, masks):
    larger = torch.full([2 * size + 1 for size in masks["masks"].shape], torch.nan)
    inside = (slice(1, None, 2),) * 5
    larger[inside] = masks["masks"].detach()
    view = larger[inside].requires_grad_()
    assert not view.is_contiguous()
    assert torch.equal(outcome(example, masks | {"masks": view})[1], outcome(example, masks)[1])


def test_one_mask_may_be_expanded_to_all_queries(example, masks):
    one = masks["masks"].detach()[:1, :1, :1].clone().requires_grad_()
    expanded = one.expand_as(masks["masks"])
    total = sum(mask_losses(RTDETRDetectionLoss(4), example, masks=expanded, gt_mask=masks["gt_mask"]).values())
    (got,) = torch.autograd.grad(total, one)
    _, each = outcome(example, masks | {"masks": expanded.detach().clone().requires_grad_()})
    assert torch.allclose(got, each.sum((0, 1, 2), keepdim=True), rtol=1e-5, atol=1e-7)


def test_arguments_are_left_alone_and_losses_can_be_scaled_in_place(example, masks):
    before = {name: each.detach().clone() for name, each in masks.items()}
    expected = outcome(example, masks)[1]
    losses = mask_losses(RTDETRDetectionLoss(4), example, **masks)
    for each in losses.values():
        each.mul_(2)
    (got,) = torch.autograd.grad(sum(losses.values()), masks["masks"])
    assert torch.allclose(got, 2 * expected, rtol=8 * EPS, atol=EPS)
    assert all(torch.equal(masks[name], each) for name, each in before.items())


@pytest.mark.parametrize("layers", [1, 3])
def test_without_a_pair_the_losses_are_zeros_in_the_graph(layers):
    example = step((0, 0), layers=layers, groups=0)
    given = masks_for(example)
    losses, by_masks = outcome(example, given)
    assert len(losses) == 4
    assert all(each == 0 and each.requires_grad for each in losses.values())
    assert by_masks.shape == given["masks"].shape
    assert not by_masks.any()


@pytest.mark.parametrize("groups", [0, 2])
def test_masks_change_no_other_loss_and_denoising_queries_have_none(groups):
    example = step(groups=groups)
    boxes, scores, *denoising = example.predictions
    loss, given = RTDETRDetectionLoss(4), masks_for(example)
    losses = loss((boxes, scores), example.batch, *denoising, dn_meta=example.dn_meta, **given)
    without = example(loss)
    assert all(torch.equal(losses[key], each) for key, each in without.items())
    assert set(losses) - set(without) == {"loss_mask", "loss_dice", "loss_mask_aux", "loss_dice_aux"}


def test_the_focal_loss_of_a_confident_right_mask_keeps_its_digits():
    example = step((1,), layers=1, groups=0, queries=1)
    given = {"masks": torch.tensor([9.0, -9.0]).view(1, 1, 1, 1, 2), "gt_mask": torch.tensor([[[1, 0]]])}
    losses = mask_losses(DETRLossOnly(), example, **given)
    p = torch.tensor(-9.0, dtype=torch.float64).sigmoid()
    focal = 0.5 * p**2 * -(1 - p).log()
    assert losses["loss_mask"].item() == pytest.approx(focal.item(), rel=1e-6, abs=0)


class DETRLossOnly(DETRLoss):
    """Called like the other class."""

    def forward(self, preds, batch, **options):
        return super().forward(*preds, batch, **options)

    def __init__(self):
        super().__init__(4)


@pytest.mark.parametrize("kind", ["DETRLoss", "RTDETRDetectionLoss"])
def test_one_layer_and_auxiliary_layers_on_their_own(example, masks, kind):
    loss, theirs = getattr(optimized, kind)(4), getattr(reference, kind)(4)
    targets = [example.batch[key] for key in ("bboxes", "cls", "gt_groups")]
    boxes, scores = example.predictions
    one = boxes[-1], scores[-1], *targets, masks["masks"][-1], masks["gt_mask"], "_x"
    auxiliary = boxes[:-1], scores[:-1], *targets, None, "_x", masks["masks"][:-1], masks["gt_mask"]
    for name, arguments in (("_get_loss", one), ("_get_loss_aux", auxiliary)):
        losses = getattr(loss, name)(*arguments)
        expected = getattr(theirs, name)(*arrays(arguments))
        assert list(losses) == list(expected)
        for key, each in losses.items():
            assert_within(each, expected[key].value, "float32")


def test_the_pairs_of_all_processes_divide_the_losses_of_masks():
    weights = mask_weights(GAINS, Normaliser(torch.tensor(2.5, dtype=torch.float64), 2))
    assert [float(each) for each in weights] == [1 / 2.5, 2 / 2.5]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.parametrize("kind", [RTDETRDetectionLoss, DETRLossOnly])
def test_a_compiled_caller_gets_the_losses_of_masks_too(example, masks, kind):
    loss = RTDETRDetectionLoss(4) if kind is RTDETRDetectionLoss else DETRLossOnly()

    def train(predictions, batch, **masks):
        return loss((predictions[0], predictions[1]), batch, **masks)

    torch.compiler.reset()
    got = torch.compile(train, backend="aot_eager")(example.predictions, example.batch, **masks)
    expected = train(example.predictions, example.batch, **masks)
    assert list(got) == list(expected)
    assert all(torch.allclose(got[key], each, rtol=8 * EPS) for key, each in expected.items())
    torch.compiler.reset()


# Matching.


def layer_of(example, masks, place=-1):
    """Arguments of the matcher, where boxes and logits tell nothing."""
    boxes, scores = (torch.full_like(each[place], 0.3) for each in example.predictions)
    targets = [example.batch[key] for key in ("bboxes", "cls", "gt_groups")]
    return boxes, scores, *targets, masks["masks"][place], masks["gt_mask"]


@pytest.mark.parametrize("points", [1, 50])
@pytest.mark.parametrize(("size", "gt_size"), [((5, 4), (9, 12)), ((40, 30), (7, 3))], ids=str)
def test_costs_are_those_of_the_reference_at_the_same_points(points, size, gt_size):
    example = step(groups=0)
    given = masks_for(example, size, gt_size)
    counts = tuple(example.batch["gt_groups"])
    drawn = draw_points(3, points, torch.Generator().manual_seed(2), torch.device("cpu"))
    costs = torch.ones(3, 5, 6)
    add_mask_costs(costs, Masks(given["masks"].detach(), given["gt_mask"]), counts, drawn, (1.0, 2.0))
    arithmetic = tolerance.arithmetic("float32")
    for layer in range(3):
        for image, own in ((0, slice(0, 3)), (2, slice(3, 5))):
            x, t = track(arrays(given["masks"])[layer, image], arithmetic), arrays(given["gt_mask"])[own].astype(float)
            theirs = formulas.mask_costs(x, t, arrays(drawn)[image])
            assert_within(costs[layer, own].T, 1.0 + theirs.mask + 2.0 * theirs.dice, "float32")


class Told(np.random.Generator):
    """A generator of the reference that was told what to draw."""

    def __new__(cls, _):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, points):
        super().__init__(np.random.PCG64(0))
        self.points = iter(points)

    def random(self, _):
        return next(self.points)


@pytest.mark.parametrize("seed", range(5))
def test_the_matching_is_that_of_the_reference_at_the_same_points(seed):
    example = step(groups=0, dtype=torch.float64)
    arguments = layer_of(example, masks_for(example, seed=seed))
    options = {"cost_gain": GAINS, "with_mask": True, "num_sample_points": 30}
    got = HungarianMatcher(**options, generator=torch.Generator().manual_seed(seed))(*arguments)
    drawn = draw_points(3, 30, torch.Generator().manual_seed(seed), torch.device("cpu"))
    expected = reference.HungarianMatcher(**options, generator=Told(arrays(drawn)))(*arrays(arguments))
    assert [[each.tolist() for each in pair] for pair in got] == [[each.tolist() for each in pair] for pair in expected]


def test_the_same_generator_draws_the_same_points_and_torch_s_own_is_left_alone():
    before = torch.get_rng_state()
    first, second = (draw_points(2, 500, torch.Generator().manual_seed(4), torch.device("cpu")) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1]), "each image has points of its own"
    assert torch.histogramdd(first.view(-1, 2), bins=[3, 3], range=[0.0, 1.0, 0.0, 1.0]).hist.min() > 70
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_points_follow_torch_s_seed(example, masks):
    loss = RTDETRDetectionLoss(4)
    loss.matcher = HungarianMatcher(GAINS, with_mask=True, num_sample_points=2)
    totals = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        totals.append(float(sum(mask_losses(loss, example, **masks).values()).detach()))
    assert totals[0] == totals[1]
    assert len(set(totals)) > 1


@pytest.mark.parametrize("options", OPTIONS)
def test_a_matcher_with_masks_in_the_loss_matches_every_layer_by_them(example, options):
    given, asked = masks_for(example, (9, 12)), OPTIONS[options]
    wanted = [(0, 5, 0), (0, 3, 1), (0, 1, 2), (2, 4, 3), (2, 0, 4)]
    own = torch.full_like(given["masks"], -9.0)
    for layer in range(3):
        for image, query, target in wanted:
            # In every layer other queries have the masks; with a shared matching all must do with those of layer 1.
            own[layer, image, (query + layer) % 6] = 18.0 * given["gt_mask"][target] - 9.0
    loss = RTDETRDetectionLoss(4, **asked)
    loss.matcher = HungarianMatcher(GAINS, with_mask=True, num_sample_points=100)
    losses = mask_losses(loss, example, masks=own, gt_mask=given["gt_mask"])
    assert losses["loss_dice"] < 1e-2
    if "aux_loss" not in asked:
        assert (losses["loss_dice_aux"] < 1e-2) == ("use_uni_match" not in asked)
        assert losses["loss_dice_aux"] < 1.5, "one of the two layers is right"


def test_a_mask_that_is_not_finite_makes_the_cost_zero(example, masks):
    with torch.no_grad():
        masks["masks"][-1, 0, 4] = torch.nan
    [(queries, _), *_] = HungarianMatcher(GAINS, with_mask=True, num_sample_points=9)(*layer_of(example, masks))
    assert 4 in queries, "all others cost more than nothing"


@pytest.mark.usefixtures("shapes_unchecked")
def test_masks_are_not_read_unless_they_are_asked_for(example, masks):
    *layer, _, _ = layer_of(example, masks)
    got = HungarianMatcher(num_sample_points=None)(*layer, torch.full((2, 3), torch.nan), None)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(got, HungarianMatcher()(*layer), strict=True))


# Bad input.

WRONG = {
    "no masks of targets": ({"gt_mask": None}, ValueError, "gt_mask is None, expected masks beside masks: both"),
    "no predicted masks": ({"masks": None}, ValueError, "masks is None, expected masks beside gt_mask: both"),
    "a list": ({"masks": [[1.0]]}, TypeError, "masks is a list, expected a tensor"),
    "integers": ({"masks": torch.zeros(3, 3, 6, 5, 4, dtype=torch.int64)}, TypeError, "masks has dtype torch.int64"),
    "complex": ({"gt_mask": torch.zeros(5, 9, 12, dtype=torch.complex64)}, TypeError, "gt_mask has dtype torch.compl"),
    "too few queries": ({"masks": torch.zeros(3, 3, 5, 5, 4)}, ValueError, "masks has shape (3, 3, 5, 5, 4), expected"),
    "an axis too few": ({"masks": torch.zeros(3, 3, 6, 5)}, ValueError, "masks has shape (3, 3, 6, 5), expected (3,"),
    "no pixels": ({"masks": torch.zeros(3, 3, 6, 0, 5)}, ValueError, "masks has shape (3, 3, 6, 0, 5)"),
    "too few targets": ({"gt_mask": torch.zeros(4, 9, 12)}, ValueError, "gt_mask has shape (4, 9, 12), expected one"),
    "targets without pixels": ({"gt_mask": torch.zeros(5, 9, 0)}, ValueError, "gt_mask has shape (5, 9, 0)"),
    "a value between": ({"gt_mask": torch.full((5, 9, 12), 0.5)}, ValueError, "gt_mask has 0.5 at [0, 0, 0], expected"),
    "a value of 255": ({"gt_mask": torch.full((5, 9, 12), 255, dtype=torch.uint8)}, ValueError, "gt_mask has 255 at"),
    "another device": ({"masks": torch.zeros(3, 3, 6, 5, 4, device="meta")}, ValueError, "masks is on meta, expected"),
}  # fmt: skip
TARGET_GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


@pytest.mark.usefixtures("shapes_unchecked")  # where shapes are checked, that check comes first
@pytest.mark.parametrize("name", WRONG)
def test_masks_that_do_not_fit_are_refused(example, masks, name):
    change, kind, message = WRONG[name]
    loss, given = RTDETRDetectionLoss(4), masks | change
    targets = [example.batch[key] for key in ("bboxes", "cls", "gt_groups")]
    matcher = HungarianMatcher(with_mask=True)
    boxes, scores = example.predictions
    for call in (
        lambda: loss(example.predictions, example.batch, **given),
        lambda: loss._get_loss_aux(boxes, scores, *targets, **given),
    ):
        with pytest.raises(kind, match=re.escape(message)):
            call()
    if "masks" not in change:
        with pytest.raises(kind, match=re.escape(message)):
            matcher(boxes[0], scores[0], *targets, given["masks"][0], given["gt_mask"])


@pytest.mark.parametrize(("gains", "kind", "message"), [
    (TARGET_GAINS, KeyError, r"loss_gain has the keys .*'mask' is missing, needed for masks"),
    (TARGET_GAINS | {"mask": 1.0}, KeyError, r"'dice' is missing"),
    (TARGET_GAINS | {"mask": float("nan"), "dice": 1.0}, ValueError, r"loss_gain\['mask'\] is nan"),
    (TARGET_GAINS | {"mask": 1.0, "dice": "1"}, TypeError, r"loss_gain\['dice'\] is '1', expected a number"),
])  # fmt: skip
def test_gains_that_masks_need(example, masks, gains, kind, message):
    loss = RTDETRDetectionLoss(4, loss_gain=gains)
    loss(tuple(example.predictions), example.batch)
    with pytest.raises(kind, match=message):
        loss(tuple(example.predictions), example.batch, **masks)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("options", "kind", "message"), [
    ({"cost_gain": TARGET_GAINS}, KeyError, r"cost_gain has the keys .*'mask' is missing, needed for with_mask"),
    ({"num_sample_points": 0}, ValueError, r"num_sample_points is 0, expected at least 1"),
    ({"num_sample_points": 2.5}, TypeError, r"num_sample_points is 2\.5, expected an integer"),
    ({"generator": 3}, TypeError, r"generator is a int, expected a torch\.Generator or None"),
])  # fmt: skip
def test_a_matcher_with_masks_and_options_that_do_not_fit(options, kind, message):
    with pytest.raises(kind, match=message):
        HungarianMatcher(with_mask=True, **options)


def test_a_matcher_with_masks_needs_masks(example):
    loss = RTDETRDetectionLoss(4)
    loss.matcher = HungarianMatcher(with_mask=True)
    with pytest.raises(ValueError, match="masks is None, expected logits for each query, as with_mask is True"):
        loss(tuple(example.predictions), example.batch)


# On a device.


@pytest.mark.cuda
@pytest.mark.parametrize("with_mask", [False, True])
def test_the_host_never_waits_for_masks(with_mask):
    example = step(groups=0, device="cuda")
    given, loss = masks_for(example), RTDETRDetectionLoss(4)
    if with_mask:
        loss.matcher = HungarianMatcher(with_mask=True, num_sample_points=50)
    outcome(example, given, loss)  # compiles the kernels and sends the counts
    with no_waiting():
        outcome(example, given, loss)


@pytest.mark.cuda
def test_a_generator_on_another_device_is_refused():
    example, loss = step(groups=0, device="cuda"), RTDETRDetectionLoss(4)
    loss.matcher = HungarianMatcher(with_mask=True, generator=torch.Generator())
    with pytest.raises(ValueError, match="generator is on cpu, expected cuda:0, where pred_scores is"):
        outcome(example, masks_for(example), loss)


@pytest.mark.cuda
def test_on_cuda_a_value_counts_as_the_nearer_of_0_and_1_or_is_refused():
    example = step(groups=0, device="cuda")
    given = masks_for(example)
    other = given | {"gt_mask": given["gt_mask"].int() * 255}
    assert torch.equal(outcome(example, other)[1], outcome(example, given)[1])
    with pytest.raises(ValueError, match="gt_mask has 255 at"):
        outcome(example, other, RTDETRDetectionLoss(4, validate=True))
