"""The denoising generator: layout, noise and attention mask, by the rules that it states."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.reference import RTDETRDetectionLoss, get_cdn_group
from detr_conformance.reference.denoising import logit

CLASSES, QUERIES = 5, 4
SMALLEST = 1e-6

LAYOUTS = [((3, 1), 10), ((3, 1), 3), ((0, 2, 0, 1), 5), ((5, 2), 3), ((4, 4), 1), ((1,), 1), ((2, 3, 0), 100)]

layouts = pytest.mark.parametrize(("gt_groups", "num_dn"), LAYOUTS)


def make_batch(gt_groups, seed=0, size=(0.05, 0.1)):
    """Targets near the middle of the image, whose noise never reaches the border."""
    rng, total = np.random.default_rng(seed), sum(gt_groups)
    boxes = np.concatenate([rng.uniform(0.45, 0.55, (total, 2)), rng.uniform(*size, (total, 2))], axis=1)
    return {"cls": rng.integers(0, CLASSES, total), "bboxes": boxes, "gt_groups": list(gt_groups)}


def generate(gt_groups, num_dn, seed=0, batch=None, **options):
    """The four results, with one unit vector for each class as its embedding."""
    batch = make_batch(gt_groups) if batch is None else batch
    options = {"cls_noise_ratio": 0.0, "training": True, "rng": np.random.default_rng(seed)} | options
    return get_cdn_group(batch, CLASSES, QUERIES, np.eye(CLASSES), num_dn, **options)


def sizes(gt_groups, num_dn) -> tuple[int, int]:
    """M and K by the rule."""
    width = min(max(gt_groups), num_dn)
    return width, num_dn // width


def filled(gt_groups, num_dn, half) -> list[list[int]]:
    """For each image its positive (half 0) or negative slots, group after group."""
    width, groups = sizes(gt_groups, num_dn)
    return [[2 * width * g + half * width + j for g in range(groups) for j in range(min(n, width))] for n in gt_groups]


def edges(boxes) -> np.ndarray:
    """Left, top, right, bottom."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)


def expit(x) -> np.ndarray:
    """Inverse of the logit."""
    return 1 / (1 + np.exp(-x))


def deviation(count) -> float:
    """How far the mean of so many numbers in [0, 1] is from its expectation at most, but for 1 case in 1e11.

    By Hoeffding's inequality. The file asks about a hundred times, so that it would fail by chance once in 1e9 seeds.
    """
    return math.sqrt(math.log(2e11) / (2 * count))


@pytest.mark.parametrize("change", [{"training": False}, {"num_dn": 0}, {"num_dn": -3}, {"batch": None}])
def test_there_is_nothing_outside_training_without_slots_and_without_a_batch(change):
    arguments = {"batch": make_batch((2, 1)), "num_dn": 10, "training": True} | change
    result = get_cdn_group(num_classes=CLASSES, num_queries=QUERIES, class_embed=np.eye(CLASSES), **arguments)
    assert result == (None, None, None, None)


@pytest.mark.parametrize("gt_groups", [(0,), (0, 0, 0)])
def test_there_is_nothing_where_no_image_has_a_target(gt_groups):
    assert generate(gt_groups, 10) == (None, None, None, None)


def test_training_is_off_and_num_dn_is_100_by_default():
    arguments = make_batch((2,)), CLASSES, QUERIES, np.eye(CLASSES)
    assert get_cdn_group(*arguments) == (None,) * 4
    assert get_cdn_group(*arguments, training=True)[3]["dn_num_group"] == 50


@layouts
def test_results_have_2mk_slots_in_every_image(gt_groups, num_dn):
    labels, boxes, mask, meta = generate(gt_groups, num_dn)
    width, groups = sizes(gt_groups, num_dn)
    slots, images = 2 * width * groups, len(gt_groups)
    assert (labels.shape, boxes.shape) == ((images, slots, CLASSES), (images, slots, 4))
    assert mask.shape == (slots + QUERIES,) * 2
    assert mask.dtype == bool
    assert meta["dn_num_group"] == groups >= 1
    assert list(meta["dn_num_split"]) == [slots, QUERIES]
    assert set(meta) == {"dn_pos_idx", "dn_gt_idx", "dn_num_group", "dn_num_split"}


@layouts
def test_positive_slots_are_listed_group_after_group(gt_groups, num_dn):
    *_, meta = generate(gt_groups, num_dn)
    assert [slots.tolist() for slots in meta["dn_pos_idx"]] == filled(gt_groups, num_dn, half=0)
    assert {slots.dtype for slots in meta["dn_pos_idx"]} == {np.dtype(np.int64)}


@layouts
def test_slots_that_no_target_fills_are_zero_and_no_other(gt_groups, num_dn):
    labels, boxes, *_ = generate(gt_groups, num_dn)
    halves = (filled(gt_groups, num_dn, half) for half in (0, 1))
    for image, (positive, negative) in enumerate(zip(*halves, strict=True)):
        slots = positive + negative
        padding = np.setdiff1d(np.arange(labels.shape[1]), slots)
        assert not labels[image, padding].any()
        assert not boxes[image, padding].any()
        assert (labels[image, slots].sum(axis=-1) == 1).all()
        assert boxes[image, slots].any(axis=-1).all()


@layouts
@pytest.mark.parametrize("half", [0, 1])
def test_target_j_sits_in_slot_j_of_both_halves_of_every_group(gt_groups, num_dn, half):
    batch = make_batch(gt_groups)
    labels, boxes, _, meta = generate(gt_groups, num_dn, batch=batch, box_noise_scale=0.0)
    for image, slots in enumerate(filled(gt_groups, num_dn, half)):
        targets = np.tile(meta["dn_gt_idx"][image], meta["dn_num_group"])
        assert (labels[image, slots].argmax(axis=-1) == batch["cls"][targets]).all()
        assert (boxes[image, slots] == batch["bboxes"][targets]).all()


def test_without_box_noise_the_boxes_are_returned_as_they_are_and_not_as_logits():
    batch = make_batch((2,))
    _, boxes, *_ = generate((2,), 2, batch=batch, box_noise_scale=0.0)
    assert (boxes[0] == np.tile(batch["bboxes"], (2, 1))).all()


@pytest.mark.parametrize(("gt_groups", "num_dn"), [((2, 0, 3), 10), ((3, 1), 3)])
def test_an_image_with_few_targets_contributes_all_of_them(gt_groups, num_dn):
    starts = np.cumsum([0, *gt_groups])
    *_, meta = generate(gt_groups, num_dn)
    assert [own.tolist() for own in meta["dn_gt_idx"]] == [
        list(range(*starts[i : i + 2])) for i in range(len(gt_groups))
    ]


def test_an_image_with_too_many_targets_contributes_an_ascending_subset_drawn_anew_at_each_call():
    rng, batch = np.random.default_rng(0), make_batch((2, 9, 4))
    draws = [generate(None, 4, batch=batch, rng=rng)[3]["dn_gt_idx"] for _ in range(60)]
    assert {(tuple(first), tuple(last)) for first, _, last in draws} == {((0, 1), (11, 12, 13, 14))}
    for _, own, _ in draws:
        assert len(own) == 4
        assert (np.diff(own) > 0).all()
        assert own.min() >= 2
        assert own.max() < 11
    counts = np.bincount(np.concatenate([own for _, own, _ in draws]), minlength=11)[2:]
    assert len({tuple(own) for _, own, _ in draws}) > 30
    assert np.abs(counts / 60 - 4 / 9).max() < deviation(60)


# Noise.


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0])
def test_half_the_noise_ratio_of_the_labels_is_replaced_by_any_class(ratio):
    batch = make_batch((50,))
    labels = generate(None, 5000, batch=batch, cls_noise_ratio=ratio)[0][0].argmax(axis=-1)
    changed = (labels != np.tile(batch["cls"], 200)).mean()
    assert abs(changed - ratio / 2 * (1 - 1 / CLASSES)) <= (deviation(10000) if ratio else 0)


def test_replacements_are_drawn_uniformly_from_all_classes():
    batch = make_batch((50,)) | {"cls": np.zeros(50, dtype=np.int64)}
    labels = generate(None, 5000, batch=batch, cls_noise_ratio=2.0)[0][0].argmax(axis=-1)
    assert np.abs(np.bincount(labels, minlength=CLASSES) / 10000 - 1 / CLASSES).max() < deviation(10000)


def test_labels_of_positives_negatives_and_groups_are_replaced_independently():
    labels = generate((50,), 100, cls_noise_ratio=1.0)[0][0].argmax(axis=-1).reshape(4, 50)
    assert all((labels[a] != labels[b]).any() for a in range(4) for b in range(a))


def distances(half, scale, seed=0):
    """Signed moves of all edges in units of half the size, for boxes that have kept a positive width and height."""
    batch = make_batch((50,))
    _, boxes, *_ = generate(None, 2000, batch=batch, box_noise_scale=scale, seed=seed)
    noisy = expit(boxes[0].reshape(40, 2, 50, 4)[:, half])
    half_size = np.tile(batch["bboxes"][:, 2:] / 2, 2)
    moves = (edges(noisy) - edges(batch["bboxes"])) / half_size
    return moves[(noisy[..., 2:] > 1.1 * SMALLEST).all(axis=-1)]


@pytest.mark.parametrize("scale", [0.4, 1.0])
@pytest.mark.parametrize(("half", "lowest", "highest"), [(0, 0, 1), (1, 1, 2)])
def test_every_edge_moves_by_u_half_sizes_with_u_below_1_for_positives_and_from_1_to_2_for_negatives(
    half, lowest, highest, scale
):
    moves = np.abs(distances(half, scale)) / scale
    assert len(moves) > 200
    assert moves.min() >= lowest - 1e-9
    assert moves.max() < highest + 1e-9
    assert moves.min() < lowest + 0.02
    assert moves.max() > highest - 0.02


@pytest.mark.parametrize("half", [0, 1])
def test_edges_move_uniformly(half):
    moves = np.abs(distances(half, scale=1.0)) - half
    for below in (0.25, 0.5, 0.75):
        assert np.abs((moves < below).mean(axis=0) - below).max() < deviation(len(moves))


def test_each_edge_of_a_positive_moves_with_a_sign_of_its_own():
    moves = distances(half=0, scale=1.0)
    assert len(moves) == 2000
    signs = (moves > 0) @ [1, 2, 4, 8]
    assert np.abs(np.bincount(signs, minlength=16) / 2000 - 1 / 16).max() < deviation(2000)


def test_edges_move_independently_of_each_other():
    moves = np.abs(distances(half=0, scale=1.0))
    lower = moves < 0.5
    for a, b in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        assert abs((lower[:, a] & lower[:, b]).mean() - 1 / 4) < deviation(2000)


def test_a_negatives_width_or_height_may_come_out_below_zero_and_is_then_the_smallest_logit():
    _, boxes, *_ = generate((50,), 500)
    negatives = boxes[0].reshape(10, 2, 50, 4)[:, 1]
    inverted = negatives[..., 2:] == logit(np.zeros(1))
    # Both edges of one axis move inwards, by more than a half size together: one case in four.
    assert abs(inverted.mean() - 1 / 4) < deviation(1000)
    assert not (boxes[0].reshape(10, 2, 50, 4)[:, 0, :, 2:] == logit(np.zeros(1))).any()


def test_noisy_edges_are_clipped_to_the_image():
    batch = {"cls": np.zeros(2, dtype=int), "bboxes": np.array([[0.1, 0.1, 0.2, 0.2], [0.8, 0.8, 0.4, 0.4]])}
    _, boxes, *_ = generate(None, 400, batch=batch | {"gt_groups": [2]})
    noisy = expit(boxes[0])
    proper = edges(noisy[(noisy[:, 2:] > 1.1 * SMALLEST).all(axis=-1)])
    assert proper.min() > -2 * SMALLEST
    assert proper.max() < 1 + 2 * SMALLEST
    assert (np.abs(proper[:, :2]) < 1e-9).any()
    assert (np.abs(proper[:, 2:] - 1) < 1e-9).any()


@pytest.mark.parametrize(
    ("p", "expected"), [(-0.5, -math.log(1e6)), (0.0, -math.log(1e6)), (0.5, 0), (1.0, math.log(1e6))]
)
def test_the_inverse_sigmoid_clips_a_millionth_inside(p, expected):
    assert logit(np.array([p])).item() == pytest.approx(expected, abs=2e-6)


def test_the_inverse_sigmoid_inverts_the_sigmoid():
    p = np.linspace(0.001, 0.999, 99)
    assert expit(logit(p)) == pytest.approx(p, rel=1e-12)


# The attention mask.


def group_of(slot, gt_groups, num_dn) -> int | None:
    """The group of a query, None for ordinary ones."""
    width, groups = sizes(gt_groups, num_dn)
    return slot // (2 * width) if slot < 2 * width * groups else None


@layouts
def test_the_mask_blocks_ordinary_queries_from_denoising_ones_and_groups_from_each_other_and_nothing_else(
    gt_groups, num_dn
):
    _, _, mask, _ = generate(gt_groups, num_dn)
    for (looking, seen), blocked in np.ndenumerate(mask):
        who, whom = (group_of(query, gt_groups, num_dn) for query in (looking, seen))
        if who is None:
            assert blocked == (whom is not None)
        else:
            assert blocked == (whom is not None and whom != who)


# What goes in and out.


def test_the_same_generator_state_gives_the_same_result_and_another_gives_another():
    first, second, other = (generate((3, 1), 9, seed=seed, cls_noise_ratio=1.0) for seed in (4, 4, 5))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


def test_without_a_generator_the_draws_are_fresh_and_the_global_state_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002  # it is the global state that must stay
    first, second = (generate((3, 1), 9, rng=None)[1] for _ in range(2))
    assert (first != second).any()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_generating_leaves_its_arguments_alone():
    batch, fresh, embedding = make_batch((3, 1)), make_batch((3, 1)), np.eye(CLASSES)
    labels, boxes, *_ = generate(None, 9, batch=batch, box_noise_scale=0.0)
    labels += 1
    boxes += 1
    assert (embedding == np.eye(CLASSES)).all()
    assert all(np.array_equal(batch[key], fresh[key]) for key in batch)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint64])
def test_labels_may_be_integers_of_any_width(dtype):
    batch = make_batch((3, 1))
    narrow = generate(None, 9, batch=batch | {"cls": batch["cls"].astype(dtype)})
    assert (narrow[0] == generate(None, 9, batch=batch)[0]).all()


def test_the_embedding_may_have_any_width_and_further_rows():
    embedding = np.random.default_rng(0).normal(size=(CLASSES + 1, 7))
    labels, *_ = get_cdn_group(make_batch((3,)), CLASSES, QUERIES, embedding, 3, 2.0, training=True)
    assert labels.shape == (1, 6, 7)
    assert all((row == embedding[:CLASSES]).all(axis=-1).any() for row in labels[0])


@layouts
def test_the_loss_pairs_every_positive_with_the_target_it_was_made_from(gt_groups, num_dn):
    batch = make_batch(gt_groups)
    _, boxes, _, meta = generate(None, num_dn, batch=batch, box_noise_scale=0.0)
    logits = np.zeros((*boxes.shape[:2], CLASSES))
    step = np.zeros((1, len(gt_groups), QUERIES, 4)), np.zeros((1, len(gt_groups), QUERIES, CLASSES))
    losses = RTDETRDetectionLoss(nc=CLASSES)(step, batch, boxes[None], logits[None], meta)
    assert float(losses["loss_bbox_dn"]) == 0.0 < float(losses["loss_bbox"])


@pytest.mark.parametrize(("gt_groups", "num_dn"), [((3, 1), 10), ((0, 2, 0, 1), 5), ((2, 3, 0), 100)])
def test_both_forms_of_indices_agree_where_every_target_is_denoised(gt_groups, num_dn):
    *_, meta = generate(gt_groups, num_dn)
    arguments = meta["dn_pos_idx"], meta["dn_num_group"], list(gt_groups)
    old, new = (RTDETRDetectionLoss.get_dn_match_indices(*arguments, form) for form in (None, meta["dn_gt_idx"]))
    assert all((a == b).all() for pair in zip(old, new, strict=True) for a, b in zip(*pair, strict=True))
