"""The loss function for D-FINE of `transformers`: its keys and values, where gradients go, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized.rtdetr import RTDETRCriterion
from detr_conformance.optimized.transformers import RTDetrHungarianMatcher, d_fine_loss, rt_detr_loss

from .layers_of_dfine import BINS, CLASSES, COUNTS, GROUPS, LEAVES, QUERIES, config, local_losses, step
from .layers_of_rtdetr import by_autograd

EPS = 2.0**-52
SHARED = ("loss_vfl", "loss_bbox", "loss_giou")
EVERY = (*SHARED, "loss_fgl", "loss_ddf")
GAINS = dict(zip(EVERY, (1.0, 5.0, 2.0, 0.15, 1.5), strict=True))


def expected(given):
    """All losses by autograd: of the last layer, of each with distributions, of the encoder, of denoising queries."""
    a, found, count = given.arguments, {}, max(sum(COUNTS), 1)
    targets = [{"labels": each["class_labels"], "boxes": each["boxes"]} for each in a["labels"]]
    meta, slots = a["denoising_meta_values"], a["outputs_class"].shape[2] - QUERIES
    layers, with_corners = a["outputs_class"].shape[1], a["predicted_corners"].shape[1]
    both = min(layers, with_corners)
    made = None if meta is None else RTDETRCriterion.get_cdn_matched_indices(meta, targets)

    def add(suffix, logits, boxes, queries=None, at=None, pairs=None, divisor=count):
        boxes = boxes.clamp(0, 1)
        if pairs is None:
            pairs = RTDetrHungarianMatcher(config())({"logits": logits, "pred_boxes": boxes}, a["labels"])
        losses = by_autograd({"pred_logits": logits, "pred_boxes": boxes}, targets, pairs, divisor)
        if at is not None:
            corners = a["predicted_corners"].unflatten(-1, (4, BINS))[:, :, queries]
            confidence = a["outputs_class"][:, -1, queries].amax(-1).sigmoid()
            layer = {"boxes": boxes, "corners": corners[:, at]}
            references = a["initial_reference_points"][:, at, queries]
            fgl, ddf = local_losses(layer, references, corners[:, -1], confidence, targets, pairs)
            losses = *losses, fgl / divisor, ddf
        for key, loss in zip(EVERY, losses, strict=False):
            found[f"{key}{suffix}"] = GAINS[key] * loss

    own, denoising = slice(slots, None), slice(0, slots)
    add("", a["outputs_class"][:, -1, own], a["outputs_coord"][:, -1, own])
    for at in range(both - 1):
        add(f"_aux_{at}", a["outputs_class"][:, at, own], a["outputs_coord"][:, at, own], own, at)
    add(f"_aux_{both - 1}", a["enc_topk_logits"], a["enc_topk_bboxes"])
    for at in range(both if made else 0):
        of_layer = a["outputs_class"][:, at, denoising], a["outputs_coord"][:, at, denoising]
        add(f"_dn_{at}", *of_layer, denoising, at, made, count * GROUPS)
    return found


FORMS = {
    "as a model": {},
    "as many distributions": {"layers": 3},
    "more distributions": {"layers": 3, "with_corners": 4},
    "no denoising": {"denoising": False},
    "boxes that reach outside": {"reach": (-0.4, 1.4)},
    "one layer": {"layers": 2, "with_corners": 1},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_losses_and_gradients_are_those_of_the_formulas(form):
    given = step(**form)
    total, got, _ = given(d_fine_loss)
    wanted = expected(given)
    assert list(got) == list(wanted)
    for key, loss in wanted.items():
        assert got[key].item() == pytest.approx(loss.item(), rel=256 * EPS), key
    assert total.item() == pytest.approx(sum(loss.item() for loss in wanted.values()), rel=64 * EPS)
    weights = torch.linspace(0.5, 1.5, len(got), dtype=torch.float64)
    grads = [
        torch.autograd.grad((torch.stack([*losses.values()]) * weights).sum(), given.leaves) for losses in (got, wanted)
    ]
    for name, own, other in zip(LEAVES, *grads, strict=True):
        assert (own - other).abs().max() <= 512 * EPS * other.abs().max(), name


def test_the_losses_that_rt_detr_has_are_its_own():
    given = step(layers=3)
    more = ("predicted_corners", "initial_reference_points")
    _, own, _ = given(d_fine_loss)
    _, others, _ = given(rt_detr_loss, **dict.fromkeys(more))
    assert {key: own[key].item() for key in own if key.startswith(SHARED)} == {k: v.item() for k, v in others.items()}


def test_auxiliary_predictions_are_returned_with_what_their_losses_are_about():
    given = step(reach=(-0.4, 1.4))
    a, slots = given.arguments, given.arguments["outputs_class"].shape[2] - QUERIES
    *_, (first, second, encoder) = given(d_fine_loss)
    assert [*encoder] == ["logits", "pred_boxes"]
    assert torch.equal(encoder["pred_boxes"], a["enc_topk_bboxes"].clamp(0, 1))
    for at, layer in enumerate((first, second)):
        wanted = {
            "logits": a["outputs_class"][:, at],
            "pred_boxes": a["outputs_coord"][:, at].clamp(0, 1),
            "pred_corners": a["predicted_corners"][:, at],
            "ref_points": a["initial_reference_points"][:, at],
            "teacher_corners": a["predicted_corners"][:, -1],
            "teacher_logits": a["outputs_class"][:, -1],
        }
        assert [*layer] == [*wanted]
        assert all(torch.equal(layer[key], each[:, slots:]) for key, each in wanted.items())


def test_without_auxiliary_losses_only_the_last_layer_is_read():
    given = step()
    _, every, _ = given(d_fine_loss)
    names = ("enc_topk_logits", "enc_topk_bboxes", "predicted_corners", "initial_reference_points")
    total, losses, layers = given(d_fine_loss, config(auxiliary_loss=False), **dict.fromkeys(names))
    assert layers is None
    assert {key: loss.item() for key, loss in losses.items()} == {key: every[key].item() for key in SHARED}
    assert total.item() == pytest.approx(sum(every[key].item() for key in SHARED), rel=4 * EPS)


def test_a_layer_without_distributions_of_its_own_has_no_loss():
    given = step()
    total, _, _ = given(d_fine_loss, logits=torch.zeros(3, 21, CLASSES), pred_boxes=torch.full((3, 21, 4), 0.5))
    of_logits, of_boxes = torch.autograd.grad(total, given.leaves[:2])
    pairs, noised = sum(COUNTS), sum(COUNTS) * GROUPS
    assert of_boxes.any(-1).sum(dim=(0, 2)).tolist() == [pairs + noised, pairs + noised, noised, 0]
    assert not of_logits[:, 2, -QUERIES:].any()
    assert not of_logits[:, 3].any()


def test_only_the_distributions_learn_from_their_losses_and_the_last_only_where_it_is_no_teacher():
    given = step(layers=3)
    _, losses, _ = given(d_fine_loss)
    for key in ("loss_fgl_dn_2", "loss_ddf_dn_1", "loss_ddf_aux_0", "loss_ddf_dn_2"):
        grads = torch.autograd.grad(losses[key], given.leaves, allow_unused=True, retain_graph=True)
        assert [each is None for each in grads] == [True] * 4 + [False], key
        learning = grads[-1].any(-1).any(0).any(-1).tolist()
        assert learning == [at == int(key[-1]) and key != "loss_ddf_dn_2" for at in range(3)], key


def test_the_configuration_is_read_at_the_call():
    given = step()
    _, before, _ = given(d_fine_loss)
    _, after, _ = given(d_fine_loss, config(weight_loss_fgl=0.3, weight_loss_ddf=0.5, weight_loss_vfl=3.0))
    for key, loss in before.items():
        factor = {"vfl": 3.0, "fgl": 2.0, "ddf": 1 / 3}.get(key.split("_")[1], 1.0)
        assert after[key].item() == pytest.approx(factor * loss.item(), rel=8 * EPS), key
    for option in ({"up": 0.3}, {"reg_scale": 8.0}):
        _, after, _ = given(d_fine_loss, config(**option))
        changed = {key.split("_")[1] for key in before if before[key].item() != after[key].item()}
        assert changed == {"fgl"}, option
    _, negative, _ = given(d_fine_loss, config(up=-0.5, reg_scale=-4.0))
    assert all(negative[key].item() == loss.item() for key, loss in before.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    halves = step(dtype=dtype)
    exact = step(dtype=dtype)
    exact.arguments |= {
        name: each.detach().float().requires_grad_()
        for name, each in exact.arguments.items()
        if isinstance(each, torch.Tensor)
    }
    (total, own, _), (wanted, others, _) = (each(d_fine_loss) for each in (halves, exact))
    assert {loss.dtype for loss in own.values()} == {torch.float32}
    for key, loss in others.items():
        assert own[key].item() == pytest.approx(loss.item(), rel=2.0**-20), key
    grads = [torch.autograd.grad(each, one.leaves) for each, one in ((total, halves), (wanted, exact))]
    for own_grad, other in zip(*grads, strict=True):
        assert own_grad.dtype == dtype
        assert (own_grad - other.to(dtype)).abs().max() <= 2 * torch.finfo(dtype).eps * other.abs().max()


def test_a_batch_without_targets_distils_and_has_no_localisation():
    given = step(denoising=False, counts=(0, 0))
    total, losses, _ = given(d_fine_loss)
    assert all(losses[f"loss_fgl_aux_{at}"].item() == 0 < losses[f"loss_ddf_aux_{at}"].item() for at in range(2))
    of_corners = torch.autograd.grad(total, given.leaves[-1])[0]
    assert of_corners[:, :2].any(-1).all()
    assert not of_corners[:, 2].any()


def test_a_reference_box_of_no_size_leaves_the_losses_finite():
    given = step()
    at_its_edge = given.arguments["labels"][0]["boxes"][0].clone()
    at_its_edge[0] -= at_its_edge[2] / 2
    at_its_edge[2:] = 0.0
    given.arguments["initial_reference_points"][:] = at_its_edge
    total, losses, _ = given(d_fine_loss)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(each.isfinite().all() for each in torch.autograd.grad(total, given.leaves))


def test_a_graph_that_is_kept_gives_the_same_gradients_again_and_none_of_second_order():
    given = step()
    total, losses, _ = given(d_fine_loss)
    first, second = (torch.autograd.grad(total, given.leaves, retain_graph=True) for _ in range(2))
    assert all(torch.equal(own, other) for own, other in zip(first, second, strict=True))
    (of_corners,) = torch.autograd.grad(losses["loss_ddf_aux_0"], given.leaves[-1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(of_corners.square().sum(), given.leaves[-1])


def call(*, labels=None, options=None, **changes):
    """The loss of arguments of which some were changed."""
    given = step()
    if labels is not None:
        changes["labels"] = labels(given.arguments["labels"])
    return given(d_fine_loss, config(**options or {}), **changes)


def without(name):
    return lambda: call(**{name: None})


REFUSED = {
    "predicted_corners is None, expected a tensor, as config.auxiliary_loss is True": without("predicted_corners"),
    "initial_reference_points is None": without("initial_reference_points"),
    "enc_topk_logits is None": without("enc_topk_logits"),
    "predicted_corners has shape (3, 3, 21, 27), expected (3, layers, 21, 28) as in logits": lambda: call(
        predicted_corners=torch.zeros(3, 3, 21, 27)
    ),
    "predicted_corners has shape (3, 0, 21, 28), expected (3, layers, 21, 28)": lambda: call(
        predicted_corners=torch.zeros(3, 0, 21, 28)
    ),
    "predicted_corners has shape (3, 28), expected (3, layers, 21, 28)": lambda: call(
        predicted_corners=torch.zeros(3, 28)
    ),
    "initial_reference_points has shape (3, 2, 21, 4), expected (3, 3, 21, 4)": lambda: call(
        initial_reference_points=torch.zeros(3, 2, 21, 4)
    ),
    "predicted_corners has dtype torch.int64": lambda: call(predicted_corners=torch.zeros(1, dtype=torch.int64)),
    "initial_reference_points is a list, expected a tensor": lambda: call(initial_reference_points=[]),
    "config.max_num_bins is 7, expected an even number": lambda: call(options={"max_num_bins": 7}),
    "config.max_num_bins is 2, expected at least 4": lambda: call(options={"max_num_bins": 2}),
    "config.up is 0.0, expected a number that is not 0": lambda: call(options={"up": 0}),
    "config.reg_scale is nan": lambda: call(options={"reg_scale": float("nan")}),
    "config.weight_loss_ddf is 'x'": lambda: call(options={"weight_loss_ddf": "x"}),
    "expected config.num_labels = 7 classes": lambda: call(options={"num_labels": 7}),
    "labels has 2 entries, expected one for each of 3 images": lambda: call(labels=lambda own: own[:2]),
    "process_group is 'gloo', expected a group": lambda: call(process_group="gloo"),
}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_named_with_its_value(message):
    with pytest.raises((KeyError, TypeError, ValueError)) as refused:
        REFUSED[message]()
    assert message in refused.value.args[0]


def test_a_configuration_that_lacks_an_option_is_an_error():
    lacking = config()
    del lacking.weight_loss_ddf
    with pytest.raises(AttributeError, match="weight_loss_ddf"):
        step()(d_fine_loss, lacking)
