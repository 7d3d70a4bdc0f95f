"""The noise of denoising queries: of the stated range and distribution. No test fails by chance for 1 seed in 1e7."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom

from detr_conformance.optimized.denoising_noise import BELOW_ONE

from .denoising_batches import CLASSES, CROWDED, WHOLE, generate, make_batch, seeded


def is_likely(count, trials, share) -> bool:
    """So few or so many out of so many come about by chance more often than once in 1e9 times."""
    return 2 * min(binom.cdf(count, trials, share), binom.sf(count - 1, trials, share)) > 1e-9


def edges(boxes):
    """Left, top, right, bottom."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)


# The random subset of crowded images.


def test_a_crowded_image_contributes_an_ascending_subset_of_its_own_drawn_anew_at_each_call():
    generator, batch = seeded(0), make_batch((2, 0, 9, 4))
    draws = [generate(None, 4, batch=batch, generator=generator)[3]["dn_gt_idx"] for _ in range(60)]
    assert {(*first.tolist(), *none.tolist(), *last.tolist()) for first, none, _, last in draws} == {
        (0, 1, 11, 12, 13, 14)
    }
    crowded = torch.stack([own for _, _, own, _ in draws])
    assert (crowded.diff(dim=1) > 0).all()
    assert (crowded.amin(), crowded.amax()) == (2, 10)
    assert len(crowded.unique(dim=0)) > 30


def test_every_subset_of_a_crowded_image_is_equally_likely():
    images = 4000
    *_, meta = generate((6, 2) * images, 3)
    chosen = torch.stack(meta["dn_gt_idx"][::2]) - 8 * torch.arange(images)[:, None]
    subsets, counts = chosen.unique(dim=0, return_counts=True)
    assert len(subsets) == math.comb(6, 3)
    assert all(is_likely(int(count), images, 1 / 20) for count in counts)


# Noise on labels.


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("half", [0, 1])
def test_half_the_noise_ratio_of_the_labels_is_replaced_by_any_class(ratio, half):
    batch = make_batch((50,))
    labels = generate(None, 5000, batch=batch, cls_noise_ratio=ratio)[0].argmax(dim=-1).view(100, 2, 50)[:, half]
    changed = int((labels != batch["cls"]).sum())
    assert is_likely(changed, 5000, ratio / 2 * (1 - 1 / CLASSES))


def test_replacements_are_drawn_uniformly_from_all_classes():
    batch = make_batch((50,)) | {"cls": torch.zeros(50, dtype=torch.int64)}
    labels = generate(None, 5000, batch=batch, cls_noise_ratio=2.0)[0].argmax(dim=-1)
    assert all(is_likely(int(count), 10000, 1 / CLASSES) for count in labels.flatten().bincount(minlength=CLASSES))


def test_labels_of_positives_negatives_groups_and_images_are_replaced_independently():
    labels = generate((50, 50), 100, cls_noise_ratio=1.0)[0].argmax(dim=-1).view(8, 50)
    assert all((labels[a] != labels[b]).any() for a in range(8) for b in range(a))


# Noise on boxes.


def shifts(half, scale=1.0, images=1):
    """Signed moves of all edges in half sizes times the scale, for boxes that have kept a positive width and height."""
    batch = make_batch((50,) * images)
    boxes = generate(None, 2000, batch=batch, box_noise_scale=scale)[1]
    noisy = boxes.sigmoid().view(images, 40, 2, 50, 4)[:, :, half]
    targets = batch["bboxes"].view(images, 1, 50, 4)
    moves = (edges(noisy) - edges(targets)) / (targets[..., 2:].repeat(1, 1, 1, 2) / 2 * scale)
    return moves[(noisy[..., 2:] > 1.1e-6).all(dim=-1)]


@pytest.mark.parametrize("scale", [0.4, 1.0])
@pytest.mark.parametrize("half", [0, 1])
def test_edges_move_by_less_than_half_a_size_in_positives_and_by_up_to_twice_that_in_negatives(half, scale):
    moves = shifts(half, scale).abs()
    assert len(moves) > 200
    assert half - 1e-9 <= moves.min() < half + 0.02
    assert half + 0.98 < moves.max() <= half + 1


@pytest.mark.parametrize("half", [0, 1])
def test_edges_move_uniformly(half):
    moves = shifts(half).abs() - half
    for below in (0.25, 0.5, 0.75):
        assert all(is_likely(int(count), len(moves), below) for count in (moves < below).sum(dim=0))


def test_each_edge_of_a_positive_moves_with_a_sign_of_its_own():
    combinations = ((shifts(half=0) > 0) * torch.tensor([1, 2, 4, 8])).sum(dim=-1)
    assert len(combinations) == 2000
    assert all(is_likely(int(count), 2000, 1 / 16) for count in combinations.bincount(minlength=16))


def test_sign_and_distance_of_a_move_are_independent():
    moves = shifts(half=0)
    far_up = (moves > 0.5).sum(dim=0)
    assert all(is_likely(int(count), len(moves), 1 / 4) for count in far_up)


def test_no_two_boxes_of_positives_negatives_groups_and_images_move_alike():
    moves = torch.cat([shifts(half=0, images=2), shifts(half=1, images=2)])
    assert len(moves[:, 0].unique()) == len(moves)


def test_the_farthest_move_of_a_negative_stays_below_2_in_float32():
    assert torch.tensor(BELOW_ONE) == BELOW_ONE < 1
    assert torch.tensor(1.0) + BELOW_ONE < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_at_the_border_are_clipped_to_the_image_and_to_the_logit_of_a_millionth(dtype):
    corner = torch.tensor([[0.0, 1.0, 0.5, 0.5]], dtype=dtype)
    batch = {"cls": torch.tensor([0]), "bboxes": corner, "gt_groups": [1]}
    boxes = generate(None, 500, batch=batch)[1]
    positive = boxes.sigmoid()[0, 0::2]
    assert boxes.abs().max() <= math.log(1e6) + 0.1
    assert torch.allclose(edges(positive)[:, [0, 3]], corner[:, [0, 1]], atol=3e-6)
    assert (boxes[0, 1::2, 2:].amin(dim=0) == torch.tensor(1e-6, dtype=dtype).logit()).all()


def test_without_box_noise_boxes_come_back_as_they_are_and_not_as_logits():
    batch = make_batch((2,))
    boxes = generate(None, 2, batch=batch, box_noise_scale=0.0)[1]
    assert torch.equal(boxes[0], batch["bboxes"].repeat(2, 1))


# Random numbers.


@pytest.mark.parametrize(("gt_groups", "num_dn"), WHOLE + CROWDED)
def test_a_seed_repeats_bit_for_bit_and_another_gives_another_result(gt_groups, num_dn):
    first, second, other = (generate(gt_groups, num_dn, seed, cls_noise_ratio=1.0) for seed in (4, 4, 5))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(map(torch.equal, first[3]["dn_gt_idx"], second[3]["dn_gt_idx"]))
    assert not torch.equal(first[1], other[1])


def test_one_generator_gives_fresh_numbers_at_each_call():
    generator = seeded(0)
    first, second = (generate((3, 1), 9, generator=generator)[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_given_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    generate((3, 1), 2, cls_noise_ratio=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_numbers_are_those_of_torch():
    results = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            results += [generate((3, 1), 2, generator=None, cls_noise_ratio=1.0) for _ in range(2)]
    first, second, again, _ = (result[1] for result in results)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
