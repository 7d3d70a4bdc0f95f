"""What a user overrides, patches, hooks or exchanges takes effect, and what cannot is an error."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from detr_conformance.optimized import DETRLoss, FocalLoss, HungarianMatcher, RTDETRDetectionLoss
from detr_conformance.optimized.by_parts import PARTS

from .steps import KINDS, step

EXACT = {"rtol": 1e-12, "atol": 1e-12}
OPTIONS = {
    **KINDS,
    "shared matching": {"use_uni_match": True, "uni_match_ind": 1},
    "no auxiliary losses": {"aux_loss": False},
}


@pytest.fixture
def example():
    return step(dtype=torch.float64)


def passing_on(*names, base=RTDETRDetectionLoss):
    """A subclass that overrides these methods and calls the original."""

    def overriding(name):
        def method(self, *arguments, **options):
            return getattr(super(Sub, self), name)(*arguments, **options)

        return method

    Sub = type("Sub", (base,), {name: overriding(name) for name in names})  # noqa: N806  # a class
    return Sub


def assert_same(got, expected):
    __tracebackhide__ = True
    (losses, gradients), (others, other_gradients) = got, expected
    assert list(losses) == list(others)
    assert all(torch.allclose(losses[key], others[key], **EXACT) for key in losses)
    assert all(torch.allclose(*each, **EXACT) for each in zip(gradients, other_gradients, strict=True))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("name", [*PARTS, "get_dn_match_indices"])
def test_layer_by_layer_is_the_same_loss(name, groups, options):
    example = step(groups=groups, dtype=torch.float64)
    assert_same(
        example.outcome(passing_on(name)(4, **options)),
        example.outcome(RTDETRDetectionLoss(4, **options)),
    )


@pytest.mark.parametrize("counts", [(0, 0), (9, 1)], ids=["no target", "more targets than queries"])
@pytest.mark.parametrize("layers", [1, 2])
def test_so_it_is_for_other_sizes(counts, layers):
    example = step(counts, layers=layers, groups=0, dtype=torch.float64)
    losses, others = example(passing_on("_get_index")(4, use_vfl=True)), example(RTDETRDetectionLoss(4, use_vfl=True))
    assert list(losses) == list(others)
    assert all(torch.allclose(losses[key], others[key], **EXACT) for key in losses)


def test_masks_go_along():
    example, generator = step(groups=0, dtype=torch.float64), torch.Generator().manual_seed(0)
    boxes, _ = example.predictions
    masks = torch.randn(*boxes.shape[:3], 4, 4, generator=generator, dtype=torch.float64)
    given = {"masks": masks, "gt_mask": torch.rand(5, 8, 8, generator=generator) > 0.5}
    losses, others = (
        loss(example.predictions, example.batch, **given)
        for loss in (passing_on("_get_loss_bbox")(4), RTDETRDetectionLoss(4))
    )
    assert list(losses) == list(others)
    assert all(torch.allclose(losses[key], others[key], **EXACT) for key in losses)


def doubled(original):
    """The same method, and every loss twice."""
    return lambda *arguments, **options: {key: 2 * loss for key, loss in original(*arguments, **options).items()}


WHOSE = {
    "_get_loss_class": "loss_class",
    "_get_loss_bbox": ("loss_bbox", "loss_giou"),
    "_get_loss": "loss",
    "_get_loss_aux": ("loss_class_aux", "loss_bbox_aux", "loss_giou_aux"),
}


@pytest.mark.parametrize("name", WHOSE)
@pytest.mark.parametrize("where", ["subclass", "instance", "class"])
def test_an_overridden_method_takes_effect(name, where, example, monkeypatch):
    expected = {
        key: loss * (2 if key.startswith(WHOSE[name]) else 1) for key, loss in example(RTDETRDetectionLoss(4)).items()
    }
    loss = RTDETRDetectionLoss(4)
    if where == "subclass":
        method = getattr(RTDETRDetectionLoss, name)
        loss = type("Sub", (RTDETRDetectionLoss,), {name: doubled(method)})(4)
    elif where == "instance":
        setattr(loss, name, doubled(getattr(loss, name)))
    else:
        monkeypatch.setattr(DETRLoss, name, doubled(getattr(DETRLoss, name)))
    got = example(loss)
    assert all(torch.allclose(got[key], expected[key], **EXACT) for key in expected)


def test_what_a_loss_of_its_own_adds_is_in_the_result(example):
    class Noting(RTDETRDetectionLoss):
        def _get_loss(self, *arguments, **options):
            losses = super()._get_loss(*arguments, **options)
            return losses | {f"pairs{options['postfix']}": torch.tensor(1.0)}

    assert {"pairs", "pairs_dn"} <= set(example(Noting(4)))


def last_queries(*_):
    """A matching that no cost would choose."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return [
        (torch.tensor([3, 4, 5]), torch.tensor([0, 1, 2])),
        (nothing, nothing),
        (torch.tensor([4, 5]), torch.tensor([3, 4])),
    ]


class Fixed(nn.Module):
    """A matcher that is no `HungarianMatcher`."""

    def forward(self, *_):
        return last_queries()


def test_a_matcher_takes_effect_however_it_comes():
    example = step(groups=0)
    expected = DETRLoss(4)(*example.predictions, example.batch, match_indices=last_queries())
    exchanged, patched, hooked, derived = (DETRLoss(4) for _ in range(4))
    exchanged.matcher = Fixed()
    patched.matcher.forward = last_queries
    hooked.matcher.register_forward_hook(last_queries)
    derived.matcher = type("Mine", (HungarianMatcher,), {"forward": last_queries})()
    for loss in (exchanged, patched, hooked, derived):
        got = loss(*example.predictions, example.batch)
        assert all(torch.allclose(got[key], expected[key], rtol=1e-6) for key in expected)


def test_a_matcher_of_other_gains_goes_the_fast_way():
    loss = RTDETRDetectionLoss(4)
    loss.matcher = HungarianMatcher({"class": 1, "bbox": 1, "giou": 1})
    assert loss._replaced_parts() == []


def test_an_index_of_its_own_takes_effect(example):
    class Nobody(RTDETRDetectionLoss):
        @staticmethod
        def _get_index(match_indices):
            return RTDETRDetectionLoss._get_index([(queries[:0], targets[:0]) for queries, targets in match_indices])

    losses = example(Nobody(4))
    assert float(losses["loss_bbox"].detach()) == float(losses["loss_giou_dn"].detach()) == 0.0


@pytest.mark.parametrize("third", ["gt_groups", "dn_gt_idx"])
def test_denoising_pairs_of_its_own_get_what_their_signature_asks_for(third, example):
    seen, original = {}, RTDETRDetectionLoss.get_dn_match_indices

    def of_counts(dn_pos_idx, dn_num_group, gt_groups):
        seen["third"] = gt_groups
        return original(dn_pos_idx, dn_num_group, gt_groups)

    def of_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        seen["third"] = dn_gt_idx
        return original(dn_pos_idx, dn_num_group, dn_gt_idx)

    indices = [torch.tensor([0, 1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([3, 4])]
    example.dn_meta["dn_gt_idx"] = indices
    method = of_counts if third == "gt_groups" else of_indices
    loss = type("Sub", (RTDETRDetectionLoss,), {"get_dn_match_indices": staticmethod(method)})(4)
    assert_same(example.outcome(loss), example.outcome(RTDETRDetectionLoss(4)))
    assert seen["third"] is (example.batch["gt_groups"] if third == "gt_groups" else indices)


def test_class_losses_that_are_switched_off(example):
    loss = RTDETRDetectionLoss(4, use_vfl=True)
    loss.vfl = None
    assert_same(example.outcome(loss), example.outcome(RTDETRDetectionLoss(4)))
    loss.fl = None
    assert_same(example.outcome(loss), example.outcome(RTDETRDetectionLoss(4, use_fl=False)))


def test_options_of_the_class_losses(example):
    loss, shared = RTDETRDetectionLoss(4, use_vfl=True), RTDETRDetectionLoss(4, use_vfl=True)
    loss.vfl.gamma, loss.vfl.alpha = 3.0, 0.5
    expected = example.outcome(RTDETRDetectionLoss(4, use_vfl=True, gamma=3.0, alpha=0.5))
    assert_same(example.outcome(loss), expected)
    shared.gamma, shared.alpha = 3.0, 0.5
    assert_same(example.outcome(shared), expected)
    assert (shared.fl.gamma, shared.fl.alpha) == (3.0, 0.5)
    nobody = step((0, 0), groups=0, dtype=torch.float64)
    assert_same(nobody.outcome(loss), nobody.outcome(RTDETRDetectionLoss(4)))  # then it is the focal one's


@pytest.mark.parametrize(("name", "options"), [("fl", {}), ("vfl", {"use_vfl": True})])
def test_a_class_loss_of_its_own_takes_effect(name, options, example):
    """On dense targets ours is the same; doubled, it shows."""
    for factor in (1.0, 2.0):
        loss = RTDETRDetectionLoss(4, **options)
        part = getattr(loss, name)
        setattr(
            loss,
            name,
            type(
                "Mine", (type(part),), {"forward": lambda self, *of, f=factor: f * super(type(self), self).forward(*of)}
            )(1.5, 0.25),
        )
        got, plain = example(loss), example(RTDETRDetectionLoss(4, **options))
        for key in plain:
            expected = plain[key] * (factor if "class" in key else 1.0)
            assert torch.allclose(got[key], expected, rtol=1e-9)


@pytest.mark.parametrize("hooked", ["fl", "matcher"])
def test_a_hook_is_called(hooked, example):
    loss, calls = RTDETRDetectionLoss(4), []
    getattr(loss, hooked).register_forward_hook(lambda *_: calls.append(1))
    expected = example.outcome(RTDETRDetectionLoss(4))
    assert_same(example.outcome(loss), expected)
    assert len(calls) == (3 if hooked == "matcher" else 5)


@pytest.mark.parametrize("way", [RTDETRDetectionLoss, passing_on("_get_loss_bbox")], ids=["at once", "by parts"])
def test_a_gain_can_be_learnt(way, example):
    loss, gain = way(4), nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
    loss.loss_gain["bbox"] = gain
    losses, expected = example(loss), example(RTDETRDetectionLoss(4))
    sum(losses.values()).backward()
    assert all(torch.allclose(losses[key], expected[key], **EXACT) for key in expected)
    of_boxes = sum(expected[key].detach() for key in expected if "bbox" in key)
    assert torch.allclose(gain.grad, of_boxes / 5.0, rtol=1e-9)
    assert all(
        torch.allclose(each.grad, other, **EXACT)
        for each, other in zip(example.predictions, example.gradients(RTDETRDetectionLoss(4)), strict=True)
    )
    assert way(4, loss_gain={"class": 1, "bbox": gain, "giou": 2}).loss_gain["bbox"] is gain


@pytest.mark.parametrize("gain", [torch.ones(2), torch.tensor(1j), torch.tensor(True)], ids=str)
def test_a_tensor_that_is_no_number_is_no_gain(gain):
    with pytest.raises(TypeError, match=r"loss_gain\['bbox'\] is tensor"):
        DETRLoss(4, loss_gain={"class": 1, "bbox": gain, "giou": 2})


def test_the_device_is_known_after_a_call(example):
    loss = RTDETRDetectionLoss(4)
    assert loss.device is None
    example(loss)
    assert loss.device == torch.device("cpu")


def test_one_layer_in_the_positions_of_both_releases(example):
    boxes, scores = (each[0] for each in example.predictions[:2])
    given = (boxes, scores, example.batch["bboxes"], example.batch["cls"], example.batch["gt_groups"])
    pairs = last_queries()
    expected = DETRLoss(4)._get_loss(*given, postfix="_x", match_indices=pairs)
    for places, names in ((("_x", pairs), {}), (("_x",), {"match_indices": pairs}), ((None, None, "_x", pairs), {})):
        got = DETRLoss(4)._get_loss(*given, *places, **names)
        assert list(got) == list(expected)
        assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_a_switch_that_can_only_be_read_is_refused():
    loss = RTDETRDetectionLoss(4)
    with pytest.raises(AttributeError, match="use_fl"):
        loss.use_fl = False


@pytest.mark.parametrize("name", [*PARTS, "get_dn_match_indices"])
def test_a_replaced_part_knows_nothing_of_other_processes(name, example):
    loss = passing_on(name)(4)
    loss.name_of_group = "WORLD"
    with pytest.raises(ValueError, match=rf"process_group is 'WORLD', expected None where a part is replaced: {name}"):
        example(loss)


def test_denoising_pairs_of_its_own_may_be_of_another_meta(example):
    expected = example.outcome(RTDETRDetectionLoss(4))
    pairs = RTDETRDetectionLoss.get_dn_match_indices(
        example.dn_meta["dn_pos_idx"], example.dn_meta["dn_num_group"], example.batch["gt_groups"]
    )
    loss = type("Sub", (RTDETRDetectionLoss,), {"get_dn_match_indices": staticmethod(lambda *_: pairs)})(4)
    example.dn_meta["dn_pos_idx"] = example.dn_meta["dn_num_group"] = "of another kind"
    assert_same(example.outcome(loss), expected)


@pytest.mark.parametrize("absent", ["dn_bboxes", "dn_scores"])
def test_denoising_queries_that_are_missing_are_named(absent, example):
    boxes, scores, dn_boxes, dn_scores = example.predictions
    given = {"dn_bboxes": dn_boxes, "dn_scores": dn_scores, "dn_meta": example.dn_meta} | {absent: None}
    for loss in (RTDETRDetectionLoss(4), passing_on("_get_index")(4)):
        with pytest.raises(ValueError, match=f"{absent} is None"):
            loss((boxes, scores), example.batch, **given)


def test_a_copy_goes_the_fast_way_as_well(example):
    loss = RTDETRDetectionLoss(4, use_vfl=True)
    example(loss)
    assert deepcopy(loss)._replaced_parts() == []


@pytest.mark.parametrize("way", ["FocalLoss", "a part"])
def test_a_second_derivative_of_a_part_is_refused(way):
    scores, nobody = step(groups=0).predictions[1][0], torch.full((3, 6), 4)
    part = {
        "FocalLoss": lambda: FocalLoss()(scores, torch.zeros_like(scores)),
        "a part": lambda: DETRLoss(4)._get_loss_class(scores, nobody, torch.zeros(3, 6), 0)["loss_class"],
    }[way]()
    (gradient,) = torch.autograd.grad(part, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="the loss can be differentiated once"):
        gradient.square().sum().backward()
