"""The denoising generator in torch: arranged as the reference arranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detr_conformance.optimized import get_cdn_group
from detr_conformance.reference import get_cdn_group as reference
from detr_conformance.reference.denoising import Layout, attention_mask

from .denoising_batches import CLASSES, CROWDED, QUERIES, WHOLE, generate, make_batch, seeded

NOTHING = (None, None, None, None)

layouts = pytest.mark.parametrize(("gt_groups", "num_dn"), WHOLE + CROWDED)


def arrays(batch):
    """The same batch for the reference."""
    return batch | {"cls": batch["cls"].numpy(), "bboxes": batch["bboxes"].numpy()}


# Where there is nothing to do.


@pytest.mark.parametrize("change", [{"training": False}, {"num_dn": 0}, {"num_dn": -3}, {"batch": None}])
def test_there_is_nothing_outside_training_without_slots_and_without_a_batch(change):
    arguments = {"batch": make_batch((2, 1)), "num_dn": 10, "training": True} | change
    assert get_cdn_group(num_classes=CLASSES, num_queries=1, class_embed=torch.eye(CLASSES), **arguments) == NOTHING


@pytest.mark.parametrize("gt_groups", [(0,), (0, 0, 0)])
def test_there_is_nothing_where_no_image_has_a_target(gt_groups):
    assert generate(gt_groups, 10) == NOTHING


def test_training_is_off_and_num_dn_is_100_by_default():
    arguments = make_batch((2,)), CLASSES, QUERIES, torch.eye(CLASSES)
    assert get_cdn_group(*arguments) == NOTHING
    assert get_cdn_group(*arguments, training=True)[3]["dn_num_group"] == 50


# The arrangement.


@pytest.mark.parametrize(("gt_groups", "num_dn"), WHOLE)
def test_without_noise_everything_is_as_in_the_reference(gt_groups, num_dn):
    batch = make_batch(gt_groups)
    *came, meta = generate(None, num_dn, batch=batch, box_noise_scale=0.0)
    *wanted, expected = reference(arrays(batch), CLASSES, QUERIES, np.eye(CLASSES), num_dn, 0.0, 0.0, training=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(came, wanted, strict=True))
    assert set(meta) == set(expected)
    for key in ("dn_pos_idx", "dn_gt_idx"):
        assert [row.tolist() for row in meta[key]] == [row.tolist() for row in expected[key]]
    assert meta["dn_num_group"] == expected["dn_num_group"]
    assert meta["dn_num_split"] == expected["dn_num_split"]


@layouts
def test_the_chosen_targets_fill_both_halves_of_every_group_and_nothing_else_does(gt_groups, num_dn):
    batch = make_batch(gt_groups)
    labels, boxes, blocked, meta = generate(None, num_dn, batch=batch, box_noise_scale=0.0)
    width = min(max(gt_groups), num_dn)
    first = tuple(sum(gt_groups[:image]) for image in range(len(gt_groups)))
    layout = Layout(tuple(row.numpy() for row in meta["dn_gt_idx"]), width, num_dn // width, first)
    assert meta["dn_num_split"] == [layout.queries, QUERIES]
    assert np.array_equal(blocked, attention_mask(layout, QUERIES))
    for image, chosen in enumerate(layout.chosen):
        assert meta["dn_pos_idx"][image].tolist() == layout.slots(image, half=0).tolist()
        expected = np.zeros((layout.queries, CLASSES + 4))
        for half in (0, 1):
            own = np.hstack([np.eye(CLASSES)[batch["cls"].numpy()[chosen]], batch["bboxes"].numpy()[chosen]])
            expected[layout.slots(image, half)] = np.tile(own, (layout.groups, 1))
        assert np.array_equal(torch.cat([labels[image], boxes[image]], dim=-1), expected)


@layouts
def test_padding_is_zero_with_noise_too_whatever_the_embedding(gt_groups, num_dn):
    batch, embedding = make_batch(gt_groups), torch.full((CLASSES, 3), math.inf)
    labels, boxes, _, meta = get_cdn_group(batch, CLASSES, QUERIES, embedding, num_dn, 2.0, training=True)
    width = min(max(gt_groups), num_dn)
    for image, positive in enumerate(meta["dn_pos_idx"]):
        filled = torch.zeros(labels.shape[1], dtype=torch.bool)
        filled[torch.cat([positive, positive + width])] = True
        assert torch.equal(labels[image] != 0, filled[:, None].expand(-1, 3))
        assert torch.equal((boxes[image] != 0).any(dim=-1), filled)


@layouts
def test_indices_are_int64_rows_for_each_image_and_the_mask_is_boolean(gt_groups, num_dn):
    _, _, blocked, meta = generate(gt_groups, num_dn)
    assert blocked.dtype == torch.bool
    for key in ("dn_pos_idx", "dn_gt_idx"):
        assert isinstance(meta[key], list)
        assert [(row.dtype, row.dim()) for row in meta[key]] == [(torch.int64, 1)] * len(gt_groups)


# Gradients.


def test_the_embedding_of_each_class_gets_the_gradient_of_its_slots():
    embedding = torch.nn.Parameter(torch.eye(CLASSES))
    labels, *_ = get_cdn_group(make_batch((3, 0, 5)), CLASSES, QUERIES, embedding, 20, 1.0, training=True)
    occurrences = labels.detach().sum(dim=(0, 1))
    labels.sum().backward()
    assert torch.equal(embedding.grad, occurrences[:, None].expand(-1, CLASSES))


def test_the_lookup_passes_gradcheck():
    embedding = torch.randn(CLASSES, 2, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    batch = make_batch((2, 1))

    def lookup(table):
        return get_cdn_group(batch, CLASSES, QUERIES, table, 2, training=True, generator=seeded(1))[0]

    assert torch.autograd.gradcheck(lookup, embedding)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_boxes_carry_no_gradient_even_of_targets_that_have_one(scale):
    batch = make_batch((3, 1))
    batch["bboxes"].requires_grad_()
    assert not generate(None, 9, batch=batch, box_noise_scale=scale)[1].requires_grad


# What goes in and out.


@layouts
def test_no_number_is_read_back_from_a_device(gt_groups, num_dn):
    batch = make_batch(gt_groups)
    # Tensors on the device "meta" have no numbers: to ask for one raises.
    elsewhere = batch | {key: batch[key].to("meta") for key in ("cls", "bboxes")}
    embedding = torch.eye(CLASSES, device="meta")
    *came, meta = get_cdn_group(elsewhere, CLASSES, QUERIES, embedding, num_dn, training=True)
    *wanted, expected = generate(None, num_dn, batch=batch)
    assert [tensor.shape for tensor in came] == [tensor.shape for tensor in wanted]
    assert [len(row) for row in meta["dn_pos_idx"]] == [len(row) for row in expected["dn_pos_idx"]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_labels_have_the_dtype_of_the_embedding_and_boxes_at_least_float32(dtype, scale):
    batch = make_batch((3, 1), dtype=dtype)
    labels, boxes, *_ = get_cdn_group(
        batch, CLASSES, QUERIES, torch.eye(CLASSES, dtype=dtype), 9, 0.0, scale, training=True
    )
    assert labels.dtype == dtype
    assert boxes.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint64])
def test_labels_may_be_integers_of_any_width(dtype):
    batch = make_batch((3, 1))
    narrow = generate(None, 9, batch=batch | {"cls": batch["cls"].to(dtype)})
    assert torch.equal(narrow[0], generate(None, 9, batch=batch)[0])


def test_counts_may_come_as_a_tuple_of_numpy_integers():
    batch = make_batch((3, 1)) | {"gt_groups": tuple(np.array([3, 1]))}
    assert torch.equal(generate(None, 9, batch=batch)[1], generate((3, 1), 9)[1])


def test_the_embedding_may_have_any_width_and_further_rows():
    embedding = torch.randn(CLASSES + 1, 7, generator=seeded(0))
    labels, *_ = get_cdn_group(make_batch((3, 1)), CLASSES, QUERIES, embedding, 3, 2.0, training=True)
    assert labels.shape == (2, 6, 7)
    assert all((row == embedding[:CLASSES]).all(dim=-1).any() for row in labels[0])
    assert not labels[1, [1, 2, 4, 5]].any()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_generating_leaves_its_arguments_alone_and_results_share_no_memory_with_them(scale):
    batch, fresh, embedding = make_batch((3, 1)), make_batch((3, 1)), torch.eye(CLASSES)
    *tensors, meta = get_cdn_group(batch, CLASSES, QUERIES, embedding, 9, 0.5, scale, training=True)
    for tensor in (*tensors[:2], *meta["dn_pos_idx"], *meta["dn_gt_idx"]):
        tensor.add_(1)
    assert torch.equal(embedding, torch.eye(CLASSES))
    assert torch.equal(batch["cls"], fresh["cls"])
    assert torch.equal(batch["bboxes"], fresh["bboxes"])
    assert batch["gt_groups"] == [3, 1]
