"""The criterion for the RT-DETR repositories: formulas, the matcher that it is given, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from detr_conformance.optimized.rtdetr import HungarianMatcher, RTDETRCriterion

from .layers_of_rtdetr import CLASSES, COUNTS, GROUPS, LAYERS, by_autograd, layer, outputs

COSTS = {"cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}
WEIGHTS = {"loss_vfl": 1.0, "loss_focal": 1.0, "loss_bce": 1.0, "loss_mal": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
EPS = 2.0**-52


def matcher(**options):
    return HungarianMatcher(COSTS, use_focal_loss=True, **options)


def criterion(losses=("vfl", "boxes"), matched_by=None, weights=None, **options):
    weights = dict(WEIGHTS) if weights is None else weights
    return RTDETRCriterion(
        matched_by or matcher(), weights, losses, **{"alpha": 0.75, "num_classes": CLASSES} | options
    )


class Another(nn.Module):
    """A matcher of somebody else, which pairs the first queries with the targets in reverse."""

    def __init__(self, form):
        super().__init__()
        self.form, self.calls = form, 0

    def forward(self, outputs, targets):
        self.calls += 1
        assert outputs["pred_logits"].dim() == 3
        counts = [len(each["labels"]) for each in targets]
        pairs = [(torch.arange(count), torch.arange(count).flip(0)) for count in counts]
        return pairs if self.form == "list" else {"indices": pairs}


def expected(given, kind="vfl", indices=None, **options):
    """All losses and their gradients by autograd, with the matching of each layer or a given one."""
    one, count, found = matcher(), float(sum(COUNTS)), {}
    sets = [("", given.outputs, count, None)]
    sets += [(f"_aux_{at}", each, count, None) for at, each in enumerate(given.outputs["aux_outputs"])]
    if "dn_meta" in given.outputs:
        made = RTDETRCriterion.get_cdn_matched_indices(given.outputs["dn_meta"], given.targets)
        denoising = given.outputs["dn_aux_outputs"]
        sets += [(f"_dn_{at}", each, count * GROUPS, made) for at, each in enumerate(denoising)]
    sets += [(f"_enc_{at}", each, count, None) for at, each in enumerate(given.outputs["enc_aux_outputs"])]
    for suffix, each, divisor, own in sets:
        pairs = own or indices or one(each, given.targets)["indices"]
        losses = by_autograd(each, given.targets, pairs, divisor, kind=kind, **options)
        for name, loss in zip((kind, "bbox", "giou"), losses, strict=True):
            found[f"loss_{name}{suffix}"] = WEIGHTS[f"loss_{name}"] * loss
    return found


def compare(given, got, wanted):
    """Values, and the gradient of a sum with other weights than ones."""
    assert list(got) == list(wanted)
    for key, loss in wanted.items():
        assert got[key].item() == pytest.approx(loss.item(), rel=64 * EPS), key
    weights = torch.linspace(0.5, 1.5, len(got), dtype=torch.float64)
    grads = [
        torch.autograd.grad((torch.stack([*losses.values()]) * weights).sum(), given.leaves) for losses in (got, wanted)
    ]
    for own, other in zip(*grads, strict=True):
        assert (own - other).abs().max() <= 512 * EPS * other.abs().max()


@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("kind", ["vfl", "focal", "bce", "mal"])
def test_losses_and_gradients_are_those_of_the_formulas(kind, gamma):
    given = outputs()
    got = criterion([kind, "boxes"], gamma=gamma)(given.outputs, given.targets)
    compare(given, got, expected(given, kind, gamma=gamma))


def test_a_focal_loss_has_no_balance_below_zero():
    given = outputs()
    compare(
        given,
        criterion(["focal", "boxes"], alpha=-1.0)(given.outputs, given.targets),
        expected(given, "focal", alpha=-1.0),
    )


def test_the_program_of_the_documentation_computes_the_losses():
    page = (Path(__file__).parents[2] / "docs/optimized.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(# fast_criterion\.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    names = {}
    exec(program.replace("num_classes=80", f"num_classes={CLASSES}"), names)  # noqa: S102  # of our own documentation
    given = outputs()
    compare(given, names["criterion"](given.outputs, given.targets), expected(given))


@pytest.mark.parametrize("form", ["list", "dictionary"])
def test_a_matcher_of_somebody_else_is_called_for_every_layer(form):
    given, another = outputs(), Another(form)
    got = criterion(matched_by=another)(given.outputs, given.targets)
    assert another.calls == LAYERS + 1, "the decoder's layers and the encoder's"
    indices = [(torch.arange(count), torch.arange(count).flip(0)) for count in COUNTS]
    compare(given, got, expected(given, indices=indices))


@pytest.mark.parametrize("how", ["subclass", "patch", "hook"])
def test_what_replaces_the_forward_of_the_matcher_takes_effect(how):
    given, one, another = outputs(), matcher(), Another("dictionary")
    if how == "subclass":
        one = type("Mine", (HungarianMatcher,), {"forward": lambda _, *given: another(*given)})(COSTS)
    elif how == "patch":
        one.forward = another.forward
    else:
        one.register_forward_hook(lambda _module, inputs, _result: another(*inputs))
    got = criterion(matched_by=one)(given.outputs, given.targets)
    wanted = criterion(matched_by=another)(given.outputs, given.targets)
    assert {key: loss.item() for key, loss in got.items()} == {key: loss.item() for key, loss in wanted.items()}


def test_auxiliary_layers_share_the_matching_of_the_last():
    given = outputs(denoising=False)
    indices = matcher()(given.outputs, given.targets)["indices"]
    got = criterion(share_matched_indices=True)(given.outputs, given.targets)
    own, shared = expected(given), expected(given, indices=indices)
    wanted = {key: own[key] if "_enc_" in key else loss for key, loss in shared.items()}
    assert own["loss_bbox_aux_0"] != shared["loss_bbox_aux_0"], "the case does not tell"
    compare(given, got, wanted)


def test_an_encoder_without_classes_has_the_targets_in_class_zero():
    given = outputs(denoising=False)
    of_encoder = layer(torch.Generator().manual_seed(9), 9, torch.float64, classes=1)
    given.outputs |= {"enc_aux_outputs": [of_encoder], "enc_meta": {"class_agnostic": True}}
    one_class = [{**each, "labels": torch.zeros_like(each["labels"])} for each in given.targets]
    got = criterion()(given.outputs, given.targets)
    wanted = by_autograd(of_encoder, one_class, matcher()(of_encoder, one_class)["indices"], float(sum(COUNTS)))
    for name, loss in zip(("vfl", "bbox", "giou"), wanted, strict=True):
        assert got[f"loss_{name}_enc_0"].item() == pytest.approx(WEIGHTS[f"loss_{name}"] * loss.item(), rel=64 * EPS)


def test_several_classification_losses_have_a_key_each():
    given = outputs()
    got = criterion(["vfl", "bce", "boxes"])(given.outputs, given.targets)
    assert list(got)[:5] == ["loss_vfl", "loss_bbox", "loss_giou", "loss_bce", "loss_vfl_aux_0"]
    apart = [criterion([name])(given.outputs, given.targets) for name in ("vfl", "bce", "boxes")]
    for key, loss in (item for losses in apart for item in losses.items()):
        assert got[key].item() == loss.item(), key


def test_a_loss_without_a_weight_is_left_out():
    given = outputs()
    got = criterion(weights={"loss_vfl": 1.0, "loss_giou": 2.0})(given.outputs, given.targets)
    assert {key.partition("_aux")[0].partition("_dn")[0].partition("_enc")[0] for key in got} == {
        "loss_vfl",
        "loss_giou",
    }


def test_options_are_read_at_the_call():
    given, built = outputs(), criterion()
    built.alpha, built.gamma, built.weight_dict["loss_bbox"] = 0.5, 1.0, 7.0
    got = built(given.outputs, given.targets)
    wanted = expected(given, alpha=0.5, gamma=1.0)
    assert got["loss_vfl_aux_1"].item() == pytest.approx(wanted["loss_vfl_aux_1"].item(), rel=64 * EPS)
    assert got["loss_bbox"].item() == pytest.approx(7 / 5 * wanted["loss_bbox"].item(), rel=64 * EPS)


def test_the_dictionary_of_weights_is_read_at_the_call():
    given, weights = outputs(denoising=False), dict(WEIGHTS)
    built = criterion(weights=weights)
    before = built(given.outputs, given.targets)
    weights["loss_bbox"] = 50.0
    after = built(given.outputs, given.targets)
    assert after["loss_bbox"].item() == pytest.approx(10 * before["loss_bbox"].item(), rel=4 * EPS)


def test_a_weight_that_is_a_tensor_is_learnt():
    given, weight = outputs(), nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
    losses = criterion(weights=WEIGHTS | {"loss_bbox": weight})(given.outputs, given.targets)
    wanted = expected(given)
    assert losses["loss_bbox_dn_1"].item() == pytest.approx(wanted["loss_bbox_dn_1"].item(), rel=64 * EPS)
    sum(losses.values()).backward()
    of_boxes = sum(loss.item() for key, loss in wanted.items() if "bbox" in key) / WEIGHTS["loss_bbox"]
    assert weight.grad.item() == pytest.approx(of_boxes, rel=64 * EPS)


@pytest.mark.parametrize("place", ["subclass", "instance"])
def test_a_replaced_pairing_of_denoising_queries_takes_effect(place):
    def none(_meta, targets):
        return [(torch.zeros(0, dtype=torch.int64),) * 2 for _ in targets]

    given, built = outputs(), criterion()
    if place == "subclass":
        built = type("Mine", (RTDETRCriterion,), {"get_cdn_matched_indices": staticmethod(none)})(
            matcher(), WEIGHTS, ["vfl", "boxes"], num_classes=CLASSES
        )
    else:
        built.get_cdn_matched_indices = none
    losses = built(given.outputs, given.targets)
    assert losses["loss_bbox_dn_0"].item() == 0.0
    assert losses["loss_bbox"].item() > 0.0


@pytest.mark.parametrize("place", ["subclass", "instance"])
@pytest.mark.parametrize("name", ["loss_boxes", "loss_labels_vfl", "get_loss"])
def test_a_method_that_would_not_be_called_is_refused(name, place):
    given, built = outputs(), criterion()
    if place == "subclass":
        built = type("Mine", (RTDETRCriterion,), {name: lambda *_: {}})(
            matcher(), WEIGHTS, ["vfl"], num_classes=CLASSES
        )
    else:
        setattr(built, name, lambda *_: {})
    with pytest.raises(TypeError, match=f"defines {name}, which RTDETRCriterion does not call"):
        built(given.outputs, given.targets)


def test_without_targets_only_the_background_counts():
    given = outputs(denoising=False)
    given.targets = [{"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)} for _ in COUNTS]
    got = criterion()(given.outputs, given.targets)
    p = given.outputs["pred_logits"].sigmoid()
    assert got["loss_vfl"].item() == pytest.approx((0.75 * p.square() * -torch.log1p(-p)).sum().item(), rel=64 * EPS)
    assert got["loss_bbox"].item() == got["loss_giou"].item() == 0.0
    grads = torch.autograd.grad(sum(got.values()), given.leaves)
    assert all(torch.isfinite(each).all() for each in grads)


def matched_as(pairs):
    """A criterion whose matcher returns these pairs."""
    return criterion(matched_by=lambda *_: pairs)


def changed(name, value):
    """A criterion of which an attribute was set."""
    built = criterion()
    setattr(built, name, value)
    return built


ONE = (torch.tensor([0]), torch.tensor([0]))
NONE = (torch.zeros(0, dtype=torch.int64),) * 2
REFUSED = {
    "what the matcher returns[0][1] is [3], expected indices from 0 to 2": lambda given: matched_as(
        [(torch.tensor([0]), torch.tensor([3])), NONE, ONE]
    )(given.outputs, given.targets),
    "what the matcher returns[1][1] is [0], expected indices from 0 to -1": lambda given: matched_as([ONE, ONE, ONE])(
        given.outputs, given.targets
    ),
    "what the matcher returns has 2 entries, expected one for each of 3": lambda given: matched_as([ONE, NONE])(
        given.outputs, given.targets
    ),
    "what the matcher returns[0] has 1 entries, expected 2": lambda given: matched_as([ONE[:1], NONE, ONE])(
        given.outputs, given.targets
    ),
    "what the matcher returns has the keys ['pairs']: 'indices' is missing": lambda given: matched_as({"pairs": []})(
        given.outputs, given.targets
    ),
    "weight_dict is a list, expected a mapping": lambda _: criterion(weights=["loss_vfl"]),
    "losses is a NoneType, expected a list": lambda _: criterion(losses=None),
    "boxes_weight_format is 'iou', expected None": lambda _: criterion(boxes_weight_format="iou"),
    "the gains of the matching cost are {'class': 0.0": lambda _: HungarianMatcher(dict.fromkeys(COSTS, 0.0)),
    "losses has 'cardinality', expected": lambda given: changed("losses", ["cardinality"])(
        given.outputs, given.targets
    ),
    "gamma is -1.0": lambda given: changed("gamma", -1.0)(given.outputs, given.targets),
    "alpha is 'x'": lambda given: changed("alpha", "x")(given.outputs, given.targets),
    "backend is 'zzz'": lambda given: changed("backend", "zzz")(given.outputs, given.targets),
    "outputs['enc_meta'] is a str, expected a mapping": lambda given: criterion()(
        given.outputs | {"enc_meta": "no"}, given.targets
    ),
    "outputs['aux_outputs'] is a int, expected a list with an entry for each layer": lambda given: criterion()(
        given.outputs | {"aux_outputs": 3}, given.targets
    ),
    "targets[0] has the keys []: 'labels' is missing": lambda given: RTDETRCriterion.get_cdn_matched_indices(
        given.outputs["dn_meta"], [{}] * 3
    ),
    "losses has 'labels', expected some of": lambda _: criterion(["labels"]),
    "weight_dict['loss_vfl'] is 'a', expected a": lambda _: criterion(weights={"loss_vfl": "a"}),
    "matcher is a str, expected a module": lambda _: criterion(matched_by="hungarian"),
    "gamma is -1": lambda _: criterion(gamma=-1.0),
    "'cost_giou' is missing": lambda _: HungarianMatcher({"cost_class": 1.0, "cost_bbox": 1.0}),
    "num_classes is 0": lambda _: criterion(num_classes=0),
    "expected num_classes = 7 classes": lambda given: criterion(num_classes=7)(given.outputs, given.targets),
    "outputs is a list": lambda given: criterion()([given.outputs], given.targets),
    "outputs has the keys": lambda given: criterion()({"logits": None}, given.targets),
    "targets has 2 entries, expected one for each of 3 images": lambda given: criterion()(
        given.outputs, given.targets[:2]
    ),
    "targets[0] has the keys ['boxes']: 'labels' is missing": lambda given: criterion()(
        given.outputs, [{"boxes": given.targets[0]["boxes"]}, *given.targets[1:]]
    ),
    "targets[2]['labels'] has 5 at [0], expected a class from 0 to 4": lambda given: criterion()(
        given.outputs, [*given.targets[:2], {**given.targets[2], "labels": torch.tensor([5, 0])}]
    ),
    "targets[0]['boxes'] has shape (2, 4), expected (3, 4) as in targets[0]['labels']": lambda given: criterion()(
        given.outputs, [{**given.targets[0], "boxes": given.targets[0]["boxes"][:2]}, *given.targets[1:]]
    ),
    "outputs['aux_outputs'][1]['pred_logits'] has shape (3, 8, 5)": lambda given: criterion()(
        {**given.outputs, "aux_outputs": [given.outputs["aux_outputs"][0], fewer(given.outputs)]}, given.targets
    ),
    "outputs has the keys ['aux_outputs', 'dn_aux_outputs'": lambda given: criterion()(
        {key: each for key, each in given.outputs.items() if key != "dn_meta"}, given.targets
    ),
    "dn_positive_idx[0] has 4 slots, expected 6": lambda given: criterion()(
        {**given.outputs, "dn_meta": {"dn_positive_idx": [torch.arange(4)] * 3, "dn_num_group": GROUPS}}, given.targets
    ),
}  # fmt: skip


def fewer(of_layer):
    """A layer with one query less."""
    return {key: of_layer[key][:, 1:] for key in ("pred_logits", "pred_boxes")}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_named_with_its_value(message):
    with pytest.raises((KeyError, TypeError, ValueError)) as refused:
        REFUSED[message](outputs())
    assert message in refused.value.args[0]
