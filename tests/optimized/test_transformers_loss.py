"""The loss function for models of `transformers`: its keys and values, where gradients go, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized.rtdetr import HungarianMatcher, RTDETRCriterion
from detr_conformance.optimized.transformers import RTDetrHungarianMatcher, rt_detr_loss

from .layers_of_rtdetr import CLASSES, COUNTS, LAYERS, QUERIES, config, outputs

EPS = 2.0**-52
TERMS = ("loss_vfl", "loss_bbox", "loss_giou")


def by_criterion(given):
    """The losses of the criterion of the repositories, under the keys of `transformers`."""
    costs = {"cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}
    weights = dict(zip(TERMS, (1.0, 5.0, 2.0), strict=True))
    matcher = HungarianMatcher(costs, use_focal_loss=True)
    criterion = RTDETRCriterion(matcher, weights, ["vfl", "boxes"], 0.75, 2.0, num_classes=CLASSES)
    losses = criterion(given.outputs, given.targets)
    return {key.replace("_enc_0", f"_aux_{LAYERS - 1}"): loss for key, loss in losses.items()}


@pytest.mark.parametrize("denoising", [True, False])
def test_losses_and_gradients_are_those_of_the_criterion(denoising):
    given = outputs(denoising=denoising)
    arguments, more = given.for_transformers()
    total, got, _ = rt_detr_loss(*arguments, config(), **more)
    wanted = by_criterion(given)
    kinds = [
        "",
        *(f"_aux_{layer}" for layer in range(LAYERS)),
        *(f"_dn_{layer}" for layer in range(LAYERS) if denoising),
    ]
    assert list(got) == [f"{term}{kind}" for kind in kinds for term in TERMS]
    for key, loss in wanted.items():
        assert got[key].item() == pytest.approx(loss.item(), rel=64 * EPS), key
    assert total.item() == pytest.approx(sum(loss.item() for loss in wanted.values()), rel=64 * EPS)
    grads = [torch.autograd.grad(each, given.leaves) for each in (total, sum(wanted.values()))]
    for own, other in zip(*grads, strict=True):
        assert (own - other).abs().max() <= 512 * EPS * other.abs().max()


def test_auxiliary_predictions_are_returned_with_the_encoder_last():
    given = outputs()
    arguments, more = given.for_transformers()
    *_, layers = rt_detr_loss(*arguments, config(), **more)
    expected = [*given.outputs["aux_outputs"], *given.outputs["enc_aux_outputs"]]
    assert len(layers) == len(expected)
    for layer, wanted in zip(layers, expected, strict=True):
        assert torch.equal(layer["logits"], wanted["pred_logits"])
        assert torch.equal(layer["pred_boxes"], wanted["pred_boxes"])


def test_without_auxiliary_losses_only_the_last_layer_is_read():
    given = outputs()
    arguments, more = given.for_transformers()
    _, every, _ = rt_detr_loss(*arguments, config(), **more)
    meta = {"denoising_meta_values": more["denoising_meta_values"]}
    total, losses, layers = rt_detr_loss(*arguments, config(auxiliary_loss=False), **meta)
    assert layers is None
    assert {key: loss.item() for key, loss in losses.items()} == {key: every[key].item() for key in TERMS}
    assert total.item() == pytest.approx(sum(every[key].item() for key in TERMS), rel=4 * EPS)


def test_the_last_layer_is_what_comes_in_its_own_arguments():
    given = outputs(denoising=False)
    (logits, labels, device, boxes), more = given.for_transformers()
    _, before, _ = rt_detr_loss(logits, labels, device, boxes, config(), **more)
    scaled = (logits * 2).requires_grad_()
    scaled.retain_grad()
    total, after, _ = rt_detr_loss(scaled, labels, device, boxes, config(), **more)
    changed = {key for key in before if before[key].item() != after[key].item()}
    assert "loss_vfl" in changed
    assert changed <= set(TERMS)
    total.backward()
    assert scaled.grad.abs().sum() > 0


def test_the_configuration_is_read_at_the_call():
    given = outputs()
    arguments, more = given.for_transformers()
    _, before, _ = rt_detr_loss(*arguments, config(), **more)
    _, after, _ = rt_detr_loss(*arguments, config(weight_loss_vfl=3.0, weight_loss_giou=1.0), **more)
    for key, loss in before.items():
        factor = {"vfl": 3.0, "bbox": 1.0, "giou": 0.5}[key.split("_")[1]]
        assert after[key].item() == pytest.approx(factor * loss.item(), rel=8 * EPS), key
    for option in ({"use_focal_loss": False, "matcher_class_cost": 50.0}, {"matcher_bbox_cost": 0.0}):
        _, losses, _ = rt_detr_loss(*arguments, config(**option), **more)
        assert any(losses[key].item() != before[key].item() for key in before), "no layer is matched otherwise"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    given = outputs(dtype=torch.float32)
    arguments, more = given.for_transformers()
    halves = [each.to(dtype) if isinstance(each, torch.Tensor) else each for each in arguments]
    more_halves = {key: each.to(dtype) if isinstance(each, torch.Tensor) else each for key, each in more.items()}
    total, losses, _ = rt_detr_loss(*halves, config(), **more_halves)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    again = [each.float() if isinstance(each, torch.Tensor) else each for each in halves]
    more_again = {key: each.float() if isinstance(each, torch.Tensor) else each for key, each in more_halves.items()}
    exact, _, _ = rt_detr_loss(*again, config(), **more_again)
    assert total.item() == pytest.approx(exact.item(), rel=2.0**-20)


def test_the_matcher_pairs_as_the_loss_does():
    given = outputs()
    labels = [{"class_labels": each["labels"], "boxes": each["boxes"]} for each in given.targets]
    own = {"logits": given.outputs["pred_logits"], "pred_boxes": given.outputs["pred_boxes"]}
    pairs = RTDetrHungarianMatcher(config())(own, labels)
    wanted = HungarianMatcher({"cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}, use_focal_loss=True)(
        given.outputs, given.targets
    )["indices"]
    assert [len(queries) for queries, _ in pairs] == list(COUNTS)
    for (queries, targets), (others, chosen) in zip(pairs, wanted, strict=True):
        assert torch.equal(queries, others)
        assert torch.equal(targets, chosen)
        assert queries.tolist() == sorted(queries.tolist())


def test_one_layer_has_no_other_auxiliary_layer_than_the_encoder():
    given = outputs(denoising=False)
    (logits, labels, device, boxes), more = given.for_transformers()
    more |= {key: more[key][:, -1:] for key in ("outputs_class", "outputs_coord")}
    _, losses, layers = rt_detr_loss(logits, labels, device, boxes, config(), **more)
    assert list(losses) == [f"{term}{kind}" for kind in ("", "_aux_0") for term in TERMS]
    assert len(layers) == 1


def call(change=None, *, labels=None, **options):
    """The loss of arguments of which some were changed."""
    given = outputs()
    (logits, own, device, boxes), more = given.for_transformers()
    return rt_detr_loss(
        logits, own if labels is None else labels(own), device, boxes, config(**options), **more | (change or {})
    )


REFUSED = {
    "outputs_class is None, expected a tensor, as config.auxiliary_loss is True": lambda: call({"outputs_class": None}),
    "enc_topk_bboxes is None": lambda: call({"enc_topk_bboxes": None}),
    "expected config.num_labels = 7 classes": lambda: call(num_labels=7),
    "config.focal_loss_gamma is -1": lambda: call(focal_loss_gamma=-1.0),
    "config.weight_loss_vfl is 'x'": lambda: call(weight_loss_vfl="x"),
    "the gains of the matching cost are {'class': 0.0": lambda: call(
        matcher_class_cost=0, matcher_bbox_cost=0, matcher_giou_cost=0
    ),
    "config.matcher_bbox_cost is nan": lambda: call(matcher_bbox_cost=float("nan")),
    "labels has 2 entries, expected one for each of 3 images": lambda: call(labels=lambda own: own[:2]),
    "labels[1] has the keys ['boxes']: 'class_labels' is missing": lambda: call(
        labels=lambda own: [own[0], {"boxes": own[1]["boxes"]}, own[2]]
    ),
    "labels[2]['boxes'] has [0.5, 0.5, -0.5, 0.5] at [1]": lambda: call(
        labels=lambda own: [*own[:2], {**own[2], "boxes": torch.tensor([[0.5] * 4, [0.5, 0.5, -0.5, 0.5]])}]
    ),
    "denoising_meta_values has the keys": lambda: call({"denoising_meta_values": {"dn_num_group": 2}}),
    "denoising_meta_values['dn_num_split'] is [3], expected": lambda: call(
        {"denoising_meta_values": {"dn_num_split": [3]}}
    ),
    f"expected {QUERIES + 1}: dn_num_split is [1, {QUERIES}]": lambda: call(
        {"denoising_meta_values": {"dn_num_split": [1, QUERIES]}}
    ),
    "enc_topk_logits has 1 images, expected 3 as in logits": lambda: call(
        {"enc_topk_logits": torch.zeros(1, QUERIES, CLASSES), "enc_topk_bboxes": torch.zeros(1, QUERIES, 4)}
    ),
    "predicted_corners is a Tensor, expected None: this is": lambda: call({"predicted_corners": torch.zeros(1)}),
    "process_group is 'gloo', expected a group": lambda: call({"process_group": "gloo"}),
}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_named_with_its_value(message):
    with pytest.raises((KeyError, TypeError, ValueError)) as refused:
        REFUSED[message]()
    assert message in refused.value.args[0]


def test_a_configuration_that_lacks_an_option_is_an_error():
    given = outputs()
    arguments, more = given.for_transformers()
    lacking = config()
    del lacking.matcher_gamma
    with pytest.raises(AttributeError, match="matcher_gamma"):
        rt_detr_loss(*arguments, lacking, **more)
