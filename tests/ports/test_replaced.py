"""What a user replaces in the loss has the same effect in ours as in that of the ultralytics package.

Runs where the package is installed: `tox run -e client`.
"""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("torch", reason="the package is in PyTorch")
pytest.importorskip("ultralytics", reason="needs the ultralytics package: tox run -e client")
import torch
from torch import nn
from ultralytics.models.utils import loss as package

from detr_conformance import optimized

from ..optimized.steps import step

pytestmark = pytest.mark.thorough

CLASSES = ("DETRLoss", "RTDETRDetectionLoss")
TOLERANCE = {"rtol": 2e-5, "atol": 1e-6}  # float32, each in an order of its own


def twice(name):
    """A subclass in which the losses of one method count twice."""

    def change(module):
        def method(self, *given, **options):
            losses = getattr(super(Sub, self), name)(*given, **options)
            return {key: 2 * loss for key, loss in losses.items()}

        Sub = type("Sub", (module.RTDETRDetectionLoss,), {name: method})  # noqa: N806  # a class
        return Sub(nc=4, use_vfl=True)

    return change


def without_the_last(pairs):
    return [(queries[:-1], targets[:-1]) for queries, targets in pairs]


def fewer_pairs(name):
    """A subclass in which a method knows of one pair less in each image."""

    def change(module):
        def matched(self, *given):
            return without_the_last(getattr(super(Sub, self), name)(*given))

        def indices(self, match_indices):
            return super(Sub, self)._get_index(without_the_last(match_indices))

        Sub = type("Sub", (module.RTDETRDetectionLoss,), {name: indices if name == "_get_index" else matched})  # noqa: N806
        return Sub(nc=4, use_vfl=True)

    return change


def changed(**attributes):
    """A loss whose attributes are set after it was built, by their paths with __ for a dot."""

    def change(module):
        loss = module.RTDETRDetectionLoss(nc=4, use_vfl=True)
        for path, value in attributes.items():
            *owners, name = path.split("__")
            owner = loss
            for each in owners:
                owner = getattr(owner, each)
            before = getattr(owner, name)
            setattr(owner, name, before.new_tensor(value) if isinstance(before, torch.Tensor) else value)
        return loss

    return change


class Reversed(nn.Module):
    """A matcher that no cost leads."""

    def forward(self, pred_bboxes, _scores, _boxes, _classes, gt_groups, **_):
        queries, first, pairs = pred_bboxes.shape[1], 0, []
        for count in gt_groups:
            pairs.append((torch.arange(queries - count, queries), torch.arange(first, first + count).flip(0)))
            first += count
        return pairs


def hooked_matcher(module):
    loss = module.RTDETRDetectionLoss(nc=4, use_vfl=True)
    loss.matcher.register_forward_hook(lambda _module, _given, pairs: without_the_last(pairs))
    return loss


def patched_matcher(module):
    loss = module.RTDETRDetectionLoss(nc=4, use_vfl=True)
    original = loss.matcher.forward
    loss.matcher.forward = lambda *given, **options: without_the_last(original(*given, **options))
    return loss


def gains_after_building(module):
    loss = module.RTDETRDetectionLoss(nc=4, use_vfl=True)
    loss.loss_gain["giou"] = 7.0
    return loss


REPLACED = {
    **{f"twice {name}": twice(name) for name in ("_get_loss_class", "_get_loss_bbox", "_get_loss", "_get_loss_aux")},
    **{f"fewer pairs of {name}": fewer_pairs(name) for name in ("_get_index", "get_dn_match_indices")},
    "no varifocal loss": changed(vfl=None),
    "no focal loss": changed(fl=None),
    "gamma of the varifocal loss": changed(vfl__gamma=3.0),
    "alpha of the varifocal loss": changed(vfl__alpha=0.5),
    "no auxiliary losses": changed(aux_loss=False),
    "a shared matching": changed(use_uni_match=True, uni_match_ind=1),
    "gains": gains_after_building,
    "cost gains": changed(matcher__cost_gain={"class": 1, "bbox": 0, "giou": 1}),
    "another matcher": changed(matcher=Reversed()),
    "a hook on the matcher": hooked_matcher,
    "a patched matcher": patched_matcher,
}


@pytest.fixture
def example():
    given = step(groups=2)
    given.dn_meta["dn_gt_idx"] = [torch.tensor([0, 1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([3, 4])]
    return given


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_has_the_same_effect(name, example):
    (losses, gradients), (others, other_gradients) = (
        example.outcome(REPLACED[name](module)) for module in (optimized, package)
    )
    assert set(losses) == set(others)
    assert all(torch.allclose(losses[key], others[key].reshape(()), **TOLERANCE) for key in losses)
    assert all(torch.allclose(*each, **TOLERANCE) for each in zip(gradients, other_gradients, strict=True))
    assert not torch.equal(sum(losses.values()), sum(example(optimized.RTDETRDetectionLoss(4, use_vfl=True)).values()))


def test_a_learnt_gain_gets_the_same_gradient(example):
    found = []
    for module in (optimized, package):
        loss = module.RTDETRDetectionLoss(nc=4)
        gain = loss.loss_gain["bbox"] = nn.Parameter(torch.tensor(5.0))
        sum(example(loss).values()).backward()
        found.append(gain.grad)
    assert torch.allclose(*found, **TOLERANCE)


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_and_attribute_of_the_package_is_there(name):
    ours, theirs = (getattr(module, name)(nc=4, use_vfl=True) for module in (optimized, package))
    known = set(dir(nn.Module()))
    names = {each for each in {*dir(theirs), *vars(theirs)} - known if not each.startswith("__")}
    assert names, "nothing was read from the package"
    assert {each for each in names if not hasattr(ours, each)} == set()
    for method in (each for each in names if inspect.isroutine(getattr(theirs, each))):
        inspect.signature(getattr(ours, method)).bind(*inspect.signature(getattr(theirs, method)).parameters)
