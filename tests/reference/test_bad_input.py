"""Bad input is refused by an error that names the argument and says what came and what was expected."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.reference import DETRLoss, HungarianMatcher, RTDETRDetectionLoss, get_cdn_group

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # where shapes are checked, that check comes first

INDICES = RTDETRDetectionLoss.get_dn_match_indices


def rows(*parts) -> list[np.ndarray]:
    """One row of indices for each image."""
    return [np.array(part, dtype=np.int64) for part in parts]


def nan_in(array) -> np.ndarray:
    """A copy with a number missing."""
    broken = array.copy()
    broken[1, 2] = math.nan
    return broken


# What is wrong with the targets, how the message goes on, and which error it is. Classes 0 to 3; counts 2, 0 and 3.
TARGETS = {
    "labels of floats": ({"cls": np.zeros(5)}, TypeError, r"gt_cls .*dtype float64, expected integers"),
    "labels of booleans": ({"cls": np.zeros(5, bool)}, TypeError, r"gt_cls .*dtype bool, expected integers"),
    "labels of text": ({"cls": np.array(["a"] * 5)}, TypeError, r"gt_cls .*dtype <U1"),
    "labels in a list": ({"cls": [0, 1, 2, 3, 0]}, TypeError, r"gt_cls .*is a list, expected a NumPy array"),
    "a negative label": ({"cls": np.array([0, -1, 2, 3, 0])}, ValueError, r"gt_cls .*has -1 at \[1\].*0 to 3"),
    "a label too large": ({"cls": np.array([0, 1, 2, 3, 4])}, ValueError, r"gt_cls .*has 4 at \[4\].*0 to 3"),
    "a label too large, unsigned": (
        {"cls": np.array([0, 1, 2, 3, 255], np.uint8)},
        ValueError,
        r"gt_cls .*has 255 at \[4\], expected a class from 0 to 3",
    ),
    "labels of two axes": ({"cls": np.zeros((5, 1), int)}, ValueError, r"gt_cls .*\(5, 1\), expected \(5,\)"),
    "too few labels": ({"cls": np.zeros(4, int)}, ValueError, r"gt_cls .*\(4,\), expected \(5,\) as gt_groups sums"),
    "too few boxes": ({"bboxes": np.zeros((4, 4))}, ValueError, r"gt_bboxes .*\(4, 4\), expected \(5, 4\)"),
    "boxes of five numbers": ({"bboxes": np.zeros((5, 5))}, ValueError, r"gt_bboxes .*\(5, 5\), expected \(5, 4\)"),
    "boxes in a list": ({"bboxes": [[0.5] * 4] * 5}, TypeError, r"gt_bboxes .*is a list"),
    "complex boxes": ({"bboxes": np.zeros((5, 4), complex)}, TypeError, r"gt_bboxes .*complex128, expected real"),
    "a box with NaN": (
        {"bboxes": nan_in(np.zeros((5, 4)))},
        ValueError,
        r"gt_bboxes .*nan.* at \[1\], expected finite",
    ),
    "an infinite box": ({"bboxes": np.full((5, 4), math.inf)}, ValueError, r"gt_bboxes .*inf.* at \[0\]"),
    "a negative count": ({"gt_groups": [3, -1, 3]}, ValueError, r"gt_groups\[1\] is -1, expected at least 0"),
    "a count of floats": ({"gt_groups": [2.0, 0, 3]}, TypeError, r"gt_groups\[0\] is 2.0, expected an integer"),
    "a boolean count": ({"gt_groups": [2, False, 3]}, TypeError, r"gt_groups\[1\] is False, expected an integer"),
    "counts with too large a sum": ({"gt_groups": [2, 1, 3]}, ValueError, r"gt_cls .*\(5,\), expected \(6,\)"),
    "counts that are none": ({"gt_groups": None}, TypeError, r"gt_groups is None, expected a count for each image"),
}

BATCHES = {
    "no labels": ("cls", r"batch has the keys \['bboxes', 'gt_groups'\]: 'cls' is missing"),
    "no boxes": ("bboxes", r"batch has the keys \['cls', 'gt_groups'\]: 'bboxes' is missing"),
    "no counts": ("gt_groups", r"batch has the keys \['bboxes', 'cls'\]: 'gt_groups' is missing"),
}

# What is wrong with the predictions of 3 layers, 3 images, 6 queries and 4 classes.
PREDICTIONS = {
    "boxes of five numbers": ({"bboxes": np.zeros((3, 3, 6, 5))}, ValueError, r"_bboxes has shape \(3, 3, 6, 5\)"),
    "boxes without layers": (
        {"bboxes": np.zeros((3, 6, 4))},
        ValueError,
        r"_bboxes has shape \(3, 6, 4\), expected \(",
    ),
    "boxes in a list": ({"bboxes": [[[[0.5] * 4]]]}, TypeError, r"_bboxes is a list, expected a NumPy array"),
    "boxes of text": ({"bboxes": np.full((3, 3, 6, 4), "a")}, TypeError, r"_bboxes has dtype <U1, expected real"),
    "logits without layers": ({"scores": np.zeros((3, 6, 4))}, ValueError, r"_scores has shape \(3, 6, 4\)"),
    "logits of other queries": (
        {"scores": np.zeros((3, 3, 5, 4))},
        ValueError,
        r"_scores has shape \(3, 3, 5, 4\), expected \(3, 3, 6\) as in \w+_bboxes",
    ),
    "other classes": ({"scores": np.zeros((3, 3, 6, 5))}, ValueError, r"_scores .*\(3, 3, 6, 5\), expected nc = 4"),
    "no layers": (
        {"bboxes": np.zeros((0, 3, 6, 4)), "scores": np.zeros((0, 3, 6, 4))},
        ValueError,
        r"one of the layers",
    ),
    "no images": (
        {"bboxes": np.zeros((3, 0, 6, 4)), "scores": np.zeros((3, 0, 6, 4))},
        ValueError,
        r"one of the images",
    ),
    "no queries": (
        {"bboxes": np.zeros((3, 3, 0, 4)), "scores": np.zeros((3, 3, 0, 4))},
        ValueError,
        r"_scores has shape \(3, 3, 0, 4\): expected at least one of the (queries|denoising)",
    ),
    "no classes": (
        {"scores": np.zeros((3, 3, 6, 0))},
        ValueError,
        r"\(3, 3, 6, 0\): expected at least one of the classes",
    ),
}


def table(cases):
    """Parametrise a test over a table of cases."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@table(TARGETS)
def test_targets_of_the_loss(draw_step, case):
    change, error, message = case
    step = draw_step()
    with pytest.raises(error, match=message):
        DETRLoss(nc=4)(*step.plain[:2], step.batch | change)


@table(TARGETS)
def test_targets_of_the_matcher(draw_step, case):
    change, error, message = case
    step = draw_step()
    targets = step.batch | change
    with pytest.raises(error, match=message):
        HungarianMatcher()(
            step.pred_bboxes[0], step.pred_scores[0], targets["bboxes"], targets["cls"], targets["gt_groups"]
        )


@table(TARGETS)
def test_targets_of_the_denoising_generator(draw_step, case):
    change, error, message = case
    with pytest.raises(error, match=message):
        get_cdn_group(draw_step().batch | change, 4, 6, np.eye(4), training=True)


def test_fewer_counts_than_images(draw_step):
    step = draw_step()
    for call in (
        lambda: DETRLoss(nc=4)(*step.plain[:2], step.batch | {"gt_groups": [2, 3]}),
        lambda: HungarianMatcher()(step.pred_bboxes[0], step.pred_scores[0], *step.targets[:2], [2, 3]),
    ):
        with pytest.raises(ValueError, match=r"gt_groups has 2 counts, expected one for each of 3 images"):
            call()


@table(BATCHES)
def test_a_batch_without_an_entry(draw_step, case):
    key, message = case
    step = draw_step()
    batch = {other: value for other, value in step.batch.items() if other != key}
    with pytest.raises(KeyError, match=message):
        RTDETRDetectionLoss(nc=4)(step.arguments[0], batch)
    with pytest.raises(KeyError, match=message):
        get_cdn_group(batch, 4, 6, np.eye(4), training=True)


def test_a_batch_that_is_none(draw_step):
    with pytest.raises(TypeError, match=r"batch is a NoneType, expected a mapping with the key 'bboxes'"):
        DETRLoss(nc=4)(*draw_step().plain[:2], None)


@table(PREDICTIONS)
def test_predictions(draw_step, case):
    change, error, message = case
    step = draw_step()
    step = replace(step, **{f"pred_{name}": array for name, array in change.items()})
    with pytest.raises(error, match=message) as caught:
        RTDETRDetectionLoss(nc=4)(*step.arguments)
    assert str(caught.value).startswith("pred_")


@table({name: case for name, case in PREDICTIONS.items() if "images" not in name})
def test_predictions_of_denoising_queries_by_their_own_names(draw_step, case):
    change, error, message = case
    step = draw_step(gt_groups=(1, 0, 1), groups=3)
    step = replace(step, **{f"dn_{name}": array for name, array in change.items()})
    with pytest.raises(error, match=message) as caught:
        RTDETRDetectionLoss(nc=4)(*step.arguments)
    assert str(caught.value).startswith("dn_")


@pytest.mark.parametrize("name", ["dn_bboxes", "dn_scores"])
def test_denoising_predictions_that_are_left_out(draw_step, name):
    step = replace(draw_step(groups=2), **{name: None})
    with pytest.raises(ValueError, match=f"{name} is None, expected the denoising queries' predictions beside dn_meta"):
        RTDETRDetectionLoss(nc=4)(*step.arguments)


@pytest.mark.parametrize("preds", [None, [1, 2, 3], ()])
def test_predictions_that_are_no_pair(draw_step, preds):
    with pytest.raises(TypeError, match=r"preds is .*, expected the pair \(pred_bboxes, pred_scores\)"):
        RTDETRDetectionLoss(nc=4)(preds, draw_step().batch)


def test_predictions_of_one_layer_where_the_matcher_expects_no_layers(draw_step):
    step = draw_step()
    with pytest.raises(ValueError, match=r"pred_bboxes has shape \(3, 3, 6, 4\), expected \(images, queries, 4\)"):
        HungarianMatcher()(*step.plain[:2], *step.targets)


@pytest.mark.parametrize("build", [HungarianMatcher, lambda gains: DETRLoss(4, gains)])
@table(
    {
        "missing": (
            {"class": 1.0, "giou": 2.0},
            KeyError,
            r"_gain has the keys \['class', 'giou'\]: 'bbox' is missing",
        ),
        "NaN": (
            {"class": 1.0, "bbox": math.nan, "giou": 2.0},
            ValueError,
            r"_gain\['bbox'\] is nan, expected a finite",
        ),
        "infinite": ({"class": math.inf, "bbox": 1.0, "giou": 2.0}, ValueError, r"_gain\['class'\] is inf"),
        "no number": (
            {"class": 1.0, "bbox": 1.0, "giou": "2"},
            TypeError,
            r"_gain\['giou'\] is '2', expected a number",
        ),
    }
)
def test_gains(build, case):
    gains, error, message = case
    with pytest.raises(error, match=message):
        build(gains)


@pytest.mark.parametrize("index", [-1, 2, 7])
def test_a_shared_auxiliary_layer_that_does_not_exist(draw_step, index):
    with pytest.raises(ValueError, match=f"uni_match_ind is {index}, expected a layer from 0 to 1"):
        DETRLoss(nc=4, use_uni_match=True, uni_match_ind=index)(*draw_step(layers=3).plain)


@table(
    {
        "one image": (
            rows([0], [0])[:1],
            ValueError,
            r"match_indices has 1 entries, expected one for each of 3 images",
        ),
        "a single row": ([rows([0])] * 3, ValueError, r"match_indices\[0\] has 1 entries, expected 2"),
        "uneven rows": ([rows([0, 1], [0])] * 3, ValueError, r"match_indices\[0\] has 2 queries for 1 targets"),
        "no such query": ([rows([6], [0])] * 3, ValueError, r"match_indices\[0\]\[0\] is \[6\], expected .* 0 to 5"),
        "no such target": ([rows([0], [5])] * 3, ValueError, r"match_indices\[0\]\[1\] is \[5\], expected .* 0 to 4"),
        "a negative index": ([rows([-1], [0])] * 3, ValueError, r"match_indices\[0\]\[0\] is \[-1\], expected"),
        "floats": ([(np.zeros(1), np.zeros(1))] * 3, TypeError, r"match_indices\[0\]\[0\] has dtype float64"),
    }
)
def test_a_given_matching(draw_step, case):
    matching, error, message = case
    with pytest.raises(error, match=message):
        DETRLoss(nc=4)(*draw_step().plain, match_indices=matching)


@table(
    {
        "too many slots": ((rows([0, 2, 4]), 2, [1]), ValueError, r"dn_pos_idx\[0\] has 3 slots, expected 2"),
        "other images": ((rows([0], [0]), 1, [1]), ValueError, r"gt_groups has 1 counts, expected one for each of 2"),
        "no group": ((rows([]), 0, [1]), ValueError, r"dn_num_group is 0, expected at least 1"),
        "half a group": ((rows([0]), 1.5, [1]), TypeError, r"dn_num_group is 1.5, expected an integer"),
        "a negative slot": ((rows([-1]), 1, [1]), ValueError, r"dn_pos_idx\[0\] is \[-1\], expected indices from 0"),
        "slots of floats": (([np.zeros(1)], 1, [1]), TypeError, r"dn_pos_idx\[0\] has dtype float64"),
        "slots of two axes": (([np.zeros((1, 1), int)], 1, [1]), ValueError, r"dn_pos_idx\[0\] has shape \(1, 1\)"),
        "targets of other images": ((rows([0]), 1, [1], []), ValueError, r"dn_gt_idx has 0 entries, expected .* 1"),
        "a target of another image": (
            (rows([0], [0]), 1, [1, 1], rows([0], [0])),
            ValueError,
            r"dn_gt_idx\[1\] is \[0\], expected indices from 1 to 1",
        ),
        "a negative count": ((rows([]), 1, [-1]), ValueError, r"gt_groups\[0\] is -1, expected at least 0"),
    }
)
def test_denoising_indices(case):
    arguments, error, message = case
    with pytest.raises(error, match=message):
        INDICES(*arguments)


def test_a_denoising_slot_beyond_the_last_one(draw_step):
    step = draw_step(gt_groups=(1,), groups=1)
    with pytest.raises(ValueError, match=r"is \[2\], expected indices from 0 to 1"):
        RTDETRDetectionLoss(nc=4)(*step.arguments[:4], step.dn_meta | {"dn_pos_idx": rows([2])})


@pytest.mark.parametrize("key", ["dn_pos_idx", "dn_num_group"])
def test_denoising_meta_without_an_entry(draw_step, key):
    step = draw_step(groups=1)
    meta = {other: value for other, value in step.dn_meta.items() if other != key}
    with pytest.raises(KeyError, match=rf"dn_meta has the keys \[.*\]: '{key}' is missing"):
        RTDETRDetectionLoss(nc=4)(*step.arguments[:4], meta)


@table(
    {
        "no queries": ({"num_queries": 0}, ValueError, "num_queries is 0, expected at least 1"),
        "no classes": ({"num_classes": 0}, ValueError, "num_classes is 0, expected at least 1"),
        "half a slot": ({"num_dn": 2.5}, TypeError, "num_dn is 2.5, expected an integer"),
        "too few embeddings": (
            {"class_embed": np.eye(3)},
            ValueError,
            r"class_embed has shape \(3, 3\), expected \(.*4",
        ),
        "embeddings without width": ({"class_embed": np.ones(4)}, ValueError, r"class_embed has shape \(4,\)"),
        "embeddings in a list": ({"class_embed": [[1.0]] * 4}, TypeError, "class_embed is a list"),
        "a ratio above 2": ({"cls_noise_ratio": 2.5}, ValueError, "cls_noise_ratio is 2.5, expected 0 to 2"),
        "a ratio below 0": ({"cls_noise_ratio": -0.1}, ValueError, "cls_noise_ratio is -0.1, expected 0 to 2"),
        "a ratio of NaN": ({"cls_noise_ratio": math.nan}, ValueError, "cls_noise_ratio is nan, expected a finite"),
        "a ratio of text": ({"cls_noise_ratio": "1"}, TypeError, "cls_noise_ratio is '1', expected a number"),
        "a scale below 0": ({"box_noise_scale": -1.0}, ValueError, "box_noise_scale is -1.0, expected at least 0"),
        "an infinite scale": ({"box_noise_scale": math.inf}, ValueError, "box_noise_scale is inf, expected a finite"),
    }
)
def test_options_of_the_denoising_generator(draw_step, case):
    change, error, message = case
    options = {"num_classes": 4, "num_queries": 6, "class_embed": np.eye(4), "training": True} | change
    with pytest.raises(error, match=message):
        get_cdn_group(draw_step().batch, **options)


def test_nothing_is_refused_of_what_is_good(draw_step):
    step = draw_step(groups=1)
    counts = np.array(step.batch["gt_groups"])
    losses = RTDETRDetectionLoss(4, {"class": 1, "bbox": np.float32(5), "giou": True})(
        step.arguments[0], step.batch | {"gt_groups": counts}, *step.arguments[2:]
    )
    assert all(math.isfinite(float(loss)) for loss in losses.values())


def test_targets_of_which_there_are_none_may_have_any_type_of_label(draw_step):
    step = draw_step(gt_groups=(0, 0))
    batch = {"cls": np.zeros(0), "bboxes": np.zeros((0, 4)), "gt_groups": (0, 0)}
    assert float(DETRLoss(nc=4)(*step.plain[:2], batch)["loss_bbox"]) == 0.0
    layer = step.pred_bboxes[0], step.pred_scores[0]
    assert [len(queries) for queries, _ in HungarianMatcher()(*layer, batch["bboxes"], batch["cls"], (0, 0))] == [0, 0]


def test_a_refused_call_has_changed_nothing(draw_step):
    step, loss = draw_step(), DETRLoss(nc=4)
    before = {key: float(each) for key, each in loss(*step.plain).items()}
    with pytest.raises(ValueError, match="gt_cls"):
        loss(*step.plain[:2], step.batch | {"cls": step.batch["cls"] - 9})
    assert {key: float(each) for key, each in loss(*step.plain).items()} == before
