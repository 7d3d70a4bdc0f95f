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
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrHungarianMatcher

from detr_conformance.optimized import transformers as ours

from ..optimized.layers_of_rtdetr import CLASSES, COUNTS, outputs

pytestmark = pytest.mark.thorough

TOLERANCE = 1e-5  # of a loss in training; measured: 6e-7
ROUNDINGS = 64 * 2.0**-23  # of a sum of some thousand terms
OPTIONS = {
    "recipe": {},
    "other exponents": {"focal_loss_alpha": 0.4, "focal_loss_gamma": 1.5, "matcher_alpha": 0.6, "matcher_gamma": 1.0},
    "other weights": {"weight_loss_vfl": 2.0, "weight_loss_giou": 0.5, "matcher_bbox_cost": 1.0},
    "softmax in the matcher": {"use_focal_loss": False},
    "no auxiliary losses": {"auxiliary_loss": False},
}


@pytest.mark.parametrize("denoising", [True, False], ids=["denoising", "alone"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_is_that_of_the_package(options, denoising):
    config = RTDetrConfig(num_labels=CLASSES, **options)
    for seed in range(8):
        given = outputs(seed, denoising=denoising, dtype=torch.float32)
        arguments, more = given.for_transformers()
        (total, own, layers), (expected, theirs, their_layers) = (
            loss(*arguments, config, **more) for loss in (ours.rt_detr_loss, RTDetrForObjectDetectionLoss)
        )
        assert list(own) == list(theirs)
        for key, loss in theirs.items():
            assert own[key].item() == pytest.approx(loss.item(), rel=ROUNDINGS), key
        assert (layers is None) == (their_layers is None)
        for layer, other in zip(layers or (), their_layers or (), strict=True):
            assert layer.keys() == other.keys()
            assert all(torch.equal(layer[key], other[key]) for key in layer)
        weights = torch.linspace(0.5, 1.5, len(own))
        grads = [
            torch.autograd.grad(
                whole + (torch.stack([*losses.values()]) * weights).sum(), given.leaves, allow_unused=True
            )
            for whole, losses in ((total, own), (expected, theirs))
        ]
        for mine, other in zip(*grads, strict=True):
            if mine is None or other is None:
                assert mine is other, "one of the two reads a layer that the other does not"
            else:
                assert (mine - other).abs().max() <= 16 * ROUNDINGS * other.abs().max()


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
}


def tiny_model(kind):
    """A model of random weights."""
    config_class, model_class = MODELS[kind]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = config_class(
        backbone_config=backbone, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=32, encoder_ffn_dim=32,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, decoder_layers=3,
        decoder_attention_heads=2, num_queries=30, num_denoising=20, num_labels=6, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return model_class(config).train()


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
    optimizer, shown = torch.optim.SGD(model.parameters(), lr=1e-3), []
    for _ in range(steps):
        result = model(pixel_values=images, labels=labels)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        shown.append({key: loss.item() for key, loss in result.loss_dict.items()} | {"loss": result.loss.item()})
    return shown


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_trains_with_our_loss_as_with_its_own(kind, capsys):
    theirs, own = losses_of_training(kind, 10), losses_of_training(kind, 10, ours.rt_detr_loss)
    assert [list(step) for step in own] == [list(step) for step in theirs]
    assert any("_dn_" in key for key in own[0]), "no denoising queries"
    apart = max(
        abs(mine[key] - its[key]) / (abs(its[key]) + 1e-6) for mine, its in zip(own, theirs, strict=True) for key in its
    )
    with capsys.disabled():
        print(f"\n{kind}: largest relative difference of a loss in ten steps: {apart:.1e}")  # noqa: T201  # the figure of the run
    assert apart <= TOLERANCE
    assert own[-1]["loss"] < own[0]["loss"], "nothing was learnt"


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
