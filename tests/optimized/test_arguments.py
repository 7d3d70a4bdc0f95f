"""Arguments in the forms in which trainers have them, and a message for those that cannot be meant."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, get_cdn_group
from detr_conformance.optimized.precision import counting_dtype

# Tensors that stand for numbers are not announced in the annotations.
pytestmark = pytest.mark.usefixtures("shapes_unchecked")
GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


def predictions(layers=3, images=2, queries=5, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(layers, images, queries, 4, generator=generator) * 0.5 + 0.2
    return boxes, torch.randn(layers, images, queries, classes, generator=generator)


def batch_of(*counts, seed=1):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(sum(counts), 4, generator=generator) * 0.5 + 0.2
    return {"bboxes": boxes, "cls": torch.arange(sum(counts)) % 3, "gt_groups": list(counts)}


@pytest.mark.parametrize("width", [-0.2, float("nan")])
def test_a_box_of_negative_width_is_named(width):
    batch = batch_of(1, 2)
    batch["bboxes"][2, 2] = width
    with pytest.raises(ValueError, match=r"bboxes.* at \[2\], expected finite numbers, and a width and height"):
        DETRLoss(nc=3)(*predictions(), batch)


def test_a_generator_of_denoising_queries_names_it_too():
    batch = {"bboxes": torch.tensor([[0.5, 0.5, 0.2, -0.2]]), "cls": torch.tensor([0]), "gt_groups": [1]}
    with pytest.raises(ValueError, match=r"bboxes.* at \[0\], expected finite numbers, and a width and height"):
        get_cdn_group(batch, 3, 5, torch.zeros(3, 2), training=True)


def test_numbers_may_come_as_tensors():
    batch, given = batch_of(1, 2), predictions()
    expected = DETRLoss(nc=3, loss_gain=GAINS)(*given, batch)
    loss = DETRLoss(nc=torch.tensor(3), loss_gain=GAINS, uni_match_ind=torch.tensor(0), gamma=torch.tensor([1.5]))
    loss.matcher = HungarianMatcher({"class": torch.tensor(2.0), "bbox": torch.tensor(5), "giou": torch.tensor([2.0])})
    assert loss(*given, batch | {"gt_groups": [torch.tensor(1), torch.tensor(2)]}) == expected


def test_denoising_counts_may_come_as_tensors():
    slots = [torch.tensor([0, 2]), torch.tensor([0, 1, 2, 3])]
    pairs = RTDETRDetectionLoss.get_dn_match_indices(slots, torch.tensor(2), [torch.tensor(1), torch.tensor(2)])
    assert [each[1].tolist() for each in pairs] == [[0, 0], [1, 2, 1, 2]]


@pytest.mark.parametrize("wrong", [torch.tensor(1.0), torch.tensor(True), torch.tensor([1])])
def test_a_tensor_that_is_no_integer_is_none(wrong):
    with pytest.raises(TypeError, match=r"nc is .*, expected an integer"):
        DETRLoss(nc=wrong)


def test_boxes_may_be_integers():
    batch = batch_of(1, 2) | {"bboxes": torch.tensor([[1, 1, 2, 2], [0, 0, 1, 1], [3, 3, 1, 2]])}
    losses = DETRLoss(nc=3)(*predictions(), batch)
    assert losses == DETRLoss(nc=3)(*predictions(), batch | {"bboxes": batch["bboxes"].float()})


def test_no_boxes_may_have_no_axis_of_coordinates():
    empty = {"bboxes": torch.tensor([]), "cls": torch.tensor([]), "gt_groups": [0, 0]}
    losses = DETRLoss(nc=3)(*predictions(), empty)
    assert losses == DETRLoss(nc=3)(*predictions(), empty | {"bboxes": torch.zeros(0, 4)})
    assert get_cdn_group(empty, 3, 5, torch.zeros(3, 2), training=True) == (None, None, None, None)


@pytest.mark.parametrize(("from_the_last", "same"), [(-1, 1), (-2, 0)])
def test_the_layer_whose_matching_is_shared_may_count_from_the_last(from_the_last, same):
    counted, expected = (
        DETRLoss(nc=3, use_uni_match=True, uni_match_ind=place)(*predictions(), batch_of(1, 2))
        for place in (from_the_last, same)
    )
    assert counted == expected


@pytest.mark.parametrize("place", [2, -3])
def test_a_layer_that_does_not_exist_is_named(place):
    with pytest.raises(ValueError, match=f"uni_match_ind is {place}, expected a layer from 0 to 1"):
        DETRLoss(nc=3, use_uni_match=True, uni_match_ind=place)(*predictions(), batch_of(1, 2))


def test_a_device_without_float64_counts_in_float32():
    assert [counting_dtype(torch.device(kind)) for kind in ("cpu", "cuda", "mps")] == [
        torch.float64, torch.float64, torch.float32,
    ]  # fmt: skip


def test_a_crowded_image_contributes_each_target_equally_often():
    # Of 40 and 7 targets 5 of each image: the later image is the one of which one key of two parts lost digits.
    batch, chosen = batch_of(40, 7), torch.zeros(47)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        *_, meta = get_cdn_group(batch, 3, 5, torch.zeros(3, 2), num_dn=5, training=True, generator=generator)
        for row in meta["dn_gt_idx"]:
            chosen[row] += 1
    first, second = chosen[:40] / 400, chosen[40:] / 400
    # Five standard deviations of a share of 400 draws.
    assert (first - 5 / 40).abs().max() < 5 * (5 / 40 * 35 / 40 / 400) ** 0.5
    assert (second - 5 / 7).abs().max() < 5 * (5 / 7 * 2 / 7 / 400) ** 0.5
