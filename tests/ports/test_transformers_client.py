"""Models of the transformers package train with our loss function as with their own, and single steps agree.

Runs where the package is installed: `tox run -e client-transformers`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the models are in PyTorch")
pytest.importorskip("transformers", reason="needs the transformers package: tox run -e client-transformers")
import torch
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from transformers.loss.loss_d_fine import DFineForObjectDetectionLoss
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrHungarianMatcher

from detr_conformance.optimized import transformers as ours

from ..optimized.layers_of_dfine import step
from ..optimized.layers_of_rtdetr import CLASSES, COUNTS, outputs

pytestmark = pytest.mark.thorough

TOLERANCE = 1e-5  # of a loss in training; measured: 2e-6
ROUNDINGS = 64 * 2.0**-23  # of a sum of some thousand terms
OPTIONS = {
    "recipe": {},
    "other exponents": {"focal_loss_alpha": 0.4, "focal_loss_gamma": 1.5, "matcher_alpha": 0.6, "matcher_gamma": 1.0},
    "other weights": {"weight_loss_vfl": 2.0, "weight_loss_giou": 0.5, "matcher_bbox_cost": 1.0},
    "softmax in the matcher": {"use_focal_loss": False},
    "no auxiliary losses": {"auxiliary_loss": False},
}


def assert_same(own, theirs, leaves):
    """Sum, losses, predictions of auxiliary layers and gradients of two loss functions."""
    (total, losses, layers), (their_total, their_losses, their_layers) = own, theirs
    assert list(losses) == list(their_losses)
    for key, loss in their_losses.items():
        assert losses[key].item() == pytest.approx(loss.item(), rel=ROUNDINGS), key
    assert (layers is None) == (their_layers is None)
    for layer, other in zip(layers or (), their_layers or (), strict=True):
        assert list(layer) == list(other)
        assert all(torch.equal(layer[key], other[key]) for key in layer)
    weights = torch.linspace(0.5, 1.5, len(losses))
    sums = total + (torch.stack([*losses.values()]) * weights).sum()
    their_sums = their_total + (torch.stack([*their_losses.values()]) * weights).sum()
    grads = [torch.autograd.grad(each, leaves, allow_unused=True) for each in (sums, their_sums)]
    for mine, other in zip(*grads, strict=True):
        if mine is None or other is None:
            assert mine is other, "one of the two reads a layer that the other does not"
        else:
            assert (mine - other).abs().max() <= 16 * ROUNDINGS * other.abs().max()


@pytest.mark.parametrize("denoising", [True, False], ids=["denoising", "alone"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_is_that_of_the_package(options, denoising):
    config = RTDetrConfig(num_labels=CLASSES, **options)
    for seed in range(8):
        given = outputs(seed, denoising=denoising, dtype=torch.float32)
        arguments, more = given.for_transformers()
        own, theirs = (loss(*arguments, config, **more) for loss in (ours.rt_detr_loss, RTDetrForObjectDetectionLoss))
        assert_same(own, theirs, given.leaves)


DFINE_OPTIONS = {
    "other weights": {"weight_loss_fgl": 0.5, "weight_loss_ddf": 0.3, "weight_loss_bbox": 1.0},
    "other bins": {"max_num_bins": 16, "up": 1.0, "reg_scale": 8.0},
}
STEPS = {
    "as a model": {},
    "COCO's layers": {"layers": 7, "with_corners": 6, "counts": (1, 0, 7, 3)},
    "as many distributions": {"layers": 3, "with_corners": 3},
    "more distributions": {"layers": 3, "with_corners": 4},
    "one layer": {"layers": 1, "with_corners": 1},
    "boxes that reach outside": {"reach": (-0.4, 1.4)},
    "alone": {"denoising": False},
    "no targets": {"denoising": False, "counts": (0, 0)},
    "more targets than queries": {"denoising": False, "counts": (12, 0, 20)},
}


@pytest.mark.parametrize("form", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("options", (OPTIONS | DFINE_OPTIONS).values(), ids=OPTIONS | DFINE_OPTIONS)
def test_a_step_of_d_fine_is_that_of_the_package(options, form):
    config = DFineConfig(num_labels=CLASSES, **options)
    for seed in range(3):
        given = step(seed, bins=config.max_num_bins + 1, dtype=torch.float32, **form)
        own, theirs = (given(loss, config) for loss in (ours.d_fine_loss, DFineForObjectDetectionLoss))
        assert_same(own, theirs, given.leaves)


def test_the_matcher_is_that_of_the_package():
    config = RTDetrConfig(num_labels=CLASSES)
    for seed in range(8):
        given = outputs(seed, denoising=False, dtype=torch.float32)
        layer = {"logits": given.outputs["pred_logits"], "pred_boxes": given.outputs["pred_boxes"]}
        labels = [{"class_labels": each["labels"], "boxes": each["boxes"]} for each in given.targets]
        own, theirs = (kind(config)(layer, labels) for kind in (ours.RTDetrHungarianMatcher, RTDetrHungarianMatcher))
        assert [len(queries) for queries, _ in own] == list(COUNTS)
        for pair, other in zip(own, theirs, strict=True):
            assert all(torch.equal(mine, its) for mine, its in zip(pair, other, strict=True))


MODELS = {
    "RT-DETR": (RTDetrConfig, RTDetrForObjectDetection),
    "RT-DETRv2": (RTDetrV2Config, RTDetrV2ForObjectDetection),
    "D-FINE": (DFineConfig, DFineForObjectDetection),
}
LOSSES = {"RT-DETR": ours.rt_detr_loss, "RT-DETRv2": ours.rt_detr_loss, "D-FINE": ours.d_fine_loss}
LEARNING_RATES = {"RT-DETR": 1e-3, "RT-DETRv2": 1e-3, "D-FINE": 1e-4}


def tiny_model(kind):
    """A model of random weights that rounding does not lead elsewhere.

    Every place of its feature maps is a query, so that none is chosen by a hair, and batch normalisation does not
    depend on the batch. In D-FINE the heads of distributions begin with zeros, which would leave nothing to distil.
    """
    config_class, model_class = MODELS[kind]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = config_class(
        backbone_config=backbone, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=32, encoder_ffn_dim=32,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, decoder_layers=3,
        decoder_attention_heads=2, num_queries=12**2 + 6**2 + 3**2, num_denoising=20, num_labels=6, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = model_class(config).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for name, weights in model.named_parameters():
        if kind == "D-FINE" and "decoder.bbox_embed" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return model


def losses_of_training(kind, steps, loss_function=None):
    """The losses of a tiny model on one batch."""
    model = tiny_model(kind)
    if loss_function is not None:
        model.loss_function = loss_function
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 96, 96, generator=generator)
    labels = [
        {
            "class_labels": torch.randint(6, (count,), generator=generator),
            "boxes": 0.3 + 0.3 * torch.rand(count, 4, generator=generator),
        }
        for count in (3, 1)
    ]
    optimizer, shown = torch.optim.SGD(model.parameters(), lr=LEARNING_RATES[kind]), []
    for _ in range(steps):
        result = model(pixel_values=images, labels=labels)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        shown.append({key: loss.item() for key, loss in result.loss_dict.items()} | {"loss": result.loss.item()})
    return shown


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_trains_with_our_loss_as_with_its_own(kind, capsys):
    theirs, own = losses_of_training(kind, 10), losses_of_training(kind, 10, LOSSES[kind])
    assert [list(step) for step in own] == [list(step) for step in theirs]
    assert any("_dn_" in key for key in own[0]), "no denoising queries"
    apart = max(
        abs(mine[key] - its[key]) / (abs(its[key]) + 1e-6) for mine, its in zip(own, theirs, strict=True) for key in its
    )
    with capsys.disabled():
        print(f"\n{kind}: largest relative difference of a loss in ten steps: {apart:.1e}")  # noqa: T201  # the figure of the run
    assert apart <= TOLERANCE
    assert own[-1]["loss"] < own[0]["loss"], "nothing was learnt"


def test_a_model_of_d_fine_puts_the_boxes_of_a_layer_with_the_distributions_of_the_next(monkeypatch):
    model, seen = tiny_model("D-FINE"), {}

    def watched(*arguments, **more):
        seen.update(more, boxes=arguments[6], returned=DFineForObjectDetectionLoss(*arguments, **more))
        return seen["returned"]

    monkeypatch.setattr(model, "loss_function", watched, raising=False)
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}]
    model(pixel_values=torch.rand(1, 3, 96, 96), labels=labels)
    boxes, corners = seen["boxes"], seen["predicted_corners"]
    assert (boxes.shape[1], corners.shape[1]) == (4, 3)
    assert torch.equal(boxes[:, 0], seen["initial_reference_points"][:, 0]), "the first is the head before the layers"
    auxiliary, queries = seen["returned"][2], slice(seen["denoising_meta_values"]["dn_num_split"][0], None)
    for at, layer in enumerate(auxiliary[:-1]):
        assert torch.equal(layer["pred_boxes"], boxes[:, at, queries])
        assert torch.equal(layer["pred_corners"], corners[:, at, queries])
    assert len(auxiliary) == 3, "two layers and the encoder: the decoder's layer before the last is left out"


def test_the_program_of_the_documentation_gives_a_model_our_loss(monkeypatch):
    page = (Path(__file__).parents[2] / "docs/optimized.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(# fast_rtdetr\.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.setattr(RTDetrForObjectDetection, "from_pretrained", lambda _: tiny_model("RT-DETR"))
    names = {}
    exec(program, names)  # noqa: S102  # of our own documentation
    assert names["model"].loss_function is ours.rt_detr_loss


def test_a_wrong_loss_would_show():
    def spoilt(*arguments, **more):
        total, losses, layers = ours.rt_detr_loss(*arguments, **more)
        return total + losses["loss_bbox_dn_0"], losses, layers

    theirs, own = losses_of_training("RT-DETR", 10), losses_of_training("RT-DETR", 10, spoilt)
    key = "loss_bbox_dn_0"
    assert abs(own[-1][key] - theirs[-1][key]) > 10 * TOLERANCE * theirs[-1][key]
