"""A normaliser that the caller gives: the losses of micro-batches add up to the loss of the merged batch."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, RTDETRDetectionLoss

from .steps import KINDS, Step, step

COUNTS = (3, 1, 2)
PAIRS = sum(COUNTS)
EPS = 2.0**-52


def micro_batches(merged: Step) -> list[Step]:
    """A batch of one image for each image of a batch."""
    labels, boxes = (merged.batch[key].split(COUNTS) for key in ("cls", "bboxes"))
    return [
        Step(
            [each.detach()[:, image : image + 1].clone().requires_grad_() for each in merged.predictions],
            {"cls": labels[image], "bboxes": boxes[image], "gt_groups": [COUNTS[image]]},
            merged.dn_meta | {"dn_pos_idx": merged.dn_meta["dn_pos_idx"][image : image + 1]},
        )
        for image in range(len(COUNTS))
    ]


def built(kind):
    return RTDETRDetectionLoss(nc=4, **KINDS[kind])


@pytest.mark.parametrize("form", [float, torch.tensor], ids=["number", "tensor"])
@pytest.mark.parametrize("kind", ["focal", "varifocal"])
def test_micro_batches_add_up_to_the_merged_batch(kind, form):
    merged, loss = step(COUNTS, dtype=torch.float64), built(kind)
    losses, gradients = merged.outcome(loss)
    parts = [
        part.outcome(lambda *args, **kw: loss(*args, normaliser=form(PAIRS), **kw)) for part in micro_batches(merged)
    ]
    for key, expected in losses.items():
        total = sum(part[key] for part, _ in parts)
        assert abs(total - expected) <= 32 * EPS * abs(expected), key
    for place, expected in enumerate(gradients):
        joined = torch.cat([of_part[place] for _, of_part in parts], dim=1)
        assert (joined - expected).abs().max() <= 32 * EPS * expected.abs().max()


def test_denoising_queries_may_have_one_of_their_own():
    given = step(COUNTS, dtype=torch.float64)
    plain, told = given(built("focal")), given(lambda *args, **kw: built("focal")(*args, dn_normaliser=24, **kw))
    # Two groups of six targets, divided by twice as many as there are.
    for key, expected in plain.items():
        assert told[key].item() == pytest.approx((expected / 2 if key.endswith("_dn") else expected).item(), rel=1e-14)


@pytest.mark.parametrize("none", [0, torch.tensor(0.0)], ids=["number", "tensor"])
def test_none_counts_as_one(none):
    given = step((0, 0), groups=0)
    assert given(lambda *args, **kw: built("focal")(*args, normaliser=none, **kw)) == given(built("focal"))


def test_cross_entropy_divides_by_the_queries_whatever_is_given():
    given, loss = step(COUNTS, groups=0), built("bce")
    told = given(lambda *args, **kw: loss(*args, normaliser=60, **kw))
    assert told["loss_class"] == given(loss)["loss_class"]
    assert told["loss_bbox"].item() == pytest.approx(given(loss)["loss_bbox"].item() / 10, rel=1e-6)


def test_masks_are_divided_by_it():
    given, masks = step(COUNTS, groups=0), torch.randn(3, 3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = DETRLoss(nc=4)
    arguments = {"masks": masks, "gt_mask": torch.ones(PAIRS, 4, 4)}
    plain, told = (loss(*given.predictions, given.batch, **arguments, **own) for own in ({}, {"normaliser": 2 * PAIRS}))
    for key in ("loss_mask", "loss_dice", "loss_mask_aux", "loss_dice_aux"):
        assert told[key].item() == pytest.approx(plain[key].item() / 2, rel=1e-6)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        ("5", TypeError),
        (torch.ones(2), TypeError),
        (torch.ones(1).to_sparse(), TypeError),
    ],
    ids=["negative", "nan", "text", "two numbers", "sparse"],
)
def test_what_is_no_normaliser_is_named(wrong, error):
    with pytest.raises(error, match=r"normaliser (is|has)"):
        step(COUNTS)(lambda *args, **kw: built("focal")(*args, normaliser=wrong, **kw))


def test_that_of_denoising_queries_is_named_too():
    with pytest.raises(ValueError, match="dn_normaliser is -1"):
        step(COUNTS)(lambda *args, **kw: built("focal")(*args, dn_normaliser=-1, **kw))


def test_a_tensor_that_is_nan_is_hidden_nowhere():
    nan = torch.tensor(float("nan"))
    losses = step(COUNTS, groups=0)(lambda *args, **kw: built("focal")(*args, normaliser=nan, **kw))
    assert losses["loss_bbox"].isnan()


def test_one_on_another_device_is_named():
    with pytest.raises(ValueError, match="normaliser is on meta, expected cpu"):
        step(COUNTS)(lambda *args, **kw: built("focal")(*args, normaliser=torch.ones((), device="meta"), **kw))


def test_it_does_not_reach_a_part_that_is_replaced():
    class Own(RTDETRDetectionLoss):
        def _get_loss_bbox(self, *given):
            return super()._get_loss_bbox(*given)

    with pytest.raises(ValueError, match="normaliser is 6, expected None where a part is replaced: _get_loss_bbox"):
        step(COUNTS)(lambda *args, **kw: Own(nc=4)(*args, normaliser=PAIRS, **kw))


@pytest.mark.usefixtures("shapes_unchecked")  # a tracer's tensors are not announced
def test_a_compiled_caller_uses_it():
    given, loss = step(COUNTS, groups=0), built("focal")
    call = torch.compile(lambda preds, batch: loss(preds, batch, normaliser=60), backend="eager")
    compiled = call(tuple(given.predictions), given.batch)
    assert compiled["loss_bbox"].item() == pytest.approx(given(loss)["loss_bbox"].item() / 10, rel=1e-6)
