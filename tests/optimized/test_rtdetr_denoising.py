"""Denoising queries of RT-DETR's form: what the suite does not ask of them, and arguments that do not fit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from detr_conformance.optimized import rtdetr, transformers

CLASSES, QUERIES = 3, 5
EMBEDDING = nn.Embedding.from_pretrained(torch.eye(CLASSES + 1, 4), freeze=False, padding_idx=CLASSES)
FORMS = {
    "rtdetr": (rtdetr.get_contrastive_denoising_training_group, "labels", "num_denoising"),
    "transformers": (transformers.get_contrastive_denoising_training_group, "class_labels", "num_denoising_queries"),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def made(form, targets=None, embedding=None, **options):
    """A group for two images of two targets and one."""
    generate, labels, number = form
    given = [
        {labels: torch.tensor([0, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.6, 0.6], [0.3, 0.4, 0.2, 0.2]])},
        {labels: torch.tensor([1]), "boxes": torch.tensor([[0.6, 0.5, 0.3, 0.9]])},
    ]
    embedding = EMBEDDING if embedding is None else embedding
    amount = {number: options.pop("amount", 8)}
    return generate(given if targets is None else targets, CLASSES, QUERIES, embedding, **amount, **options)


def test_no_logit_is_beyond_those_of_the_clipped_ends(form):
    torch.manual_seed(0)
    boxes = torch.cat([made(form, box_noise_scale=2.0)[1] for _ in range(50)])
    end = -math.log(1e-5)
    assert boxes.min().item() == pytest.approx(-end, rel=1e-6), "sizes of 0 and below occur"
    assert boxes.max().item() <= end * (1 + 1e-6)


def test_without_noise_boxes_are_as_they_are_and_padding_is_an_empty_box(form):
    _, boxes, _, meta = made(form, box_noise_scale=0.0)
    padding = torch.ones(boxes.shape[1], dtype=torch.bool)
    width = boxes.shape[1] // meta["dn_num_group"] // 2
    for half in range(2 * meta["dn_num_group"]):
        padding[half * width] = False
        assert torch.equal(boxes[1, half * width], torch.tensor([0.6, 0.5, 0.3, 0.9]))
    assert not boxes[1, padding].any()


def test_the_generator_decides(form):
    generator = torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    first = made(form, generator=generator)[1]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, made(form, generator=generator.manual_seed(3))[1])
    assert not torch.equal(first, made(form, generator=generator.manual_seed(4))[1])


def test_masks_are_what_each_package_expects():
    blocked, added = (made(FORMS[name])[2] for name in FORMS)
    assert blocked.dtype == torch.bool
    assert torch.equal(added == -math.inf, blocked)
    assert not added[~blocked].any()


REFUSED = {
    "is 2.5, expected an integer": {"amount": 2.5},
    "label_noise_ratio is 3.0, expected 0 to 2": {"label_noise_ratio": 3.0},
    "box_noise_scale is -1": {"box_noise_scale": -1.0},
    "targets is a int, expected a list": {"targets": 3},
    "targets[0] is a str, expected a mapping": {"targets": ["a"]},
    "'boxes' is missing": {"targets": [{"labels": torch.zeros(1), "class_labels": torch.zeros(1)}]},
    "['boxes'] is a list, expected a tensor": {
        "targets": [{"labels": torch.zeros(1), "class_labels": torch.zeros(1), "boxes": []}]
    },
    "targets is empty": {"targets": []},
    "class_embed has 3 rows, expected num_classes + 1 = 4": {"embedding": nn.Embedding(3, 4)},
    "class_embed is a Tensor": {"embedding": EMBEDDING.weight.detach()},
    "generator is a int": {"generator": 3},
}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_argument_is_named_with_its_value(message, form):
    with pytest.raises((KeyError, TypeError, ValueError)) as refused:
        made(form, **REFUSED[message])
    assert message in refused.value.args[0]


@pytest.mark.usefixtures("shapes_unchecked")
def test_the_number_is_called_what_the_package_calls_it(form):
    with pytest.raises(TypeError, match=f"^{form[2]} is "):
        made(form, amount=2.5)
