"""What the denoising generator says of arguments that do not fit."""

from __future__ import annotations

import math

import pytest
import torch

from detr_conformance.optimized import get_cdn_group

from .denoising_batches import make_batch

# The shapes are what the generator itself is to complain about.
pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def good():
    """Arguments that fit: 4 images, 5 classes."""
    return {
        "batch": make_batch((2, 0, 3, 1)),
        "num_classes": 5,
        "num_queries": 6,
        "class_embed": torch.eye(5),
        "training": True,
    }


def table(cases):
    """Parametrise a test over a table of cases."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@table(
    {
        "no queries": ({"num_queries": 0}, ValueError, "num_queries is 0, expected at least 1"),
        "no classes": ({"num_classes": 0}, ValueError, "num_classes is 0, expected at least 1"),
        "half a slot": ({"num_dn": 2.5}, TypeError, "num_dn is 2.5, expected an integer"),
        "a ratio above 2": ({"cls_noise_ratio": 2.5}, ValueError, "cls_noise_ratio is 2.5, expected 0 to 2"),
        "a ratio below 0": ({"cls_noise_ratio": -0.1}, ValueError, "cls_noise_ratio is -0.1, expected 0 to 2"),
        "a ratio of NaN": ({"cls_noise_ratio": math.nan}, ValueError, "cls_noise_ratio is nan, expected a finite"),
        "a ratio of text": ({"cls_noise_ratio": "1"}, TypeError, "cls_noise_ratio is '1', expected a number"),
        "a scale below 0": ({"box_noise_scale": -1.0}, ValueError, "box_noise_scale is -1.0, expected at least 0"),
        "an infinite scale": ({"box_noise_scale": math.inf}, ValueError, "box_noise_scale is inf, expected a finite"),
        "too few embeddings": (
            {"class_embed": torch.eye(4)},
            ValueError,
            r"class_embed has shape \(4, 4\), expected \(num_classes = 5, channels\)",
        ),
        "embeddings without width": ({"class_embed": torch.ones(5)}, ValueError, r"class_embed has shape \(5,\)"),
        "embeddings in a list": ({"class_embed": [[1.0]] * 5}, TypeError, "class_embed is a list, expected a tensor"),
        "embeddings of integers": (
            {"class_embed": torch.eye(5).int()},
            TypeError,
            "class_embed has dtype torch.int32, expected float",
        ),
        "a seed for a generator": ({"generator": 3}, TypeError, "generator is a int, expected a torch.Generator"),
        "a generator elsewhere": (
            {"generator": torch.Generator(), "class_embed": torch.ones(5, 2, device="meta")},
            ValueError,
            "generator is on cpu, expected meta, where class_embed is",
        ),
        "a batch in a list": ({"batch": [1, 2]}, TypeError, "batch is a list, expected a mapping with the key 'cls'"),
    }
)
def test_options(case):
    change, error, message = case
    with pytest.raises(error, match=message):
        get_cdn_group(**good() | change)


@table(
    {
        "counts that do not sum": ({"gt_groups": [2, 0, 3]}, ValueError, r"cls.* has shape \(6,\), expected \(5,\)"),
        "too few boxes": ({"bboxes": torch.ones(5, 4)}, ValueError, r"bboxes.* has shape \(5, 4\), expected \(6, 4\)"),
        "corners missing": (
            {"bboxes": torch.ones(6, 3)},
            ValueError,
            r"bboxes.* has shape \(6, 3\), expected \(6, 4\)",
        ),
        "a column of labels": (
            {"cls": torch.ones(6, 1).int()},
            ValueError,
            r"cls.* has shape \(6, 1\), expected \(6,\)",
        ),
        "labels of floats": ({"cls": torch.ones(6)}, TypeError, "cls.* has dtype torch.float32, expected integers"),
        "labels of booleans": (
            {"cls": torch.ones(6).bool()},
            TypeError,
            "cls.* has dtype torch.bool, expected integers",
        ),
        "labels in a list": ({"cls": [0] * 6}, TypeError, "cls.* is a list, expected a tensor"),
        "boxes of booleans": ({"bboxes": torch.ones(6, 4).bool()}, TypeError, "bboxes.* has dtype torch.bool"),
        "a class too many": ({"cls": torch.tensor([0, 1, 5, 3, 4, 2])}, ValueError, r"cls.* has 5 at \[2\].* 0 to 4"),
        "a class below 0": ({"cls": torch.tensor([0, 1, 2, 3, 4, -1])}, ValueError, r"cls.* has -1 at \[5\].* 0 to 4"),
        "a negative count": ({"gt_groups": [2, 5, -1]}, ValueError, r"gt_groups\[2\] is -1, expected at least 0"),
        "half a target": ({"gt_groups": [2.5, 3.5]}, TypeError, r"gt_groups\[0\] is 2.5, expected an integer"),
        "counts in a tensor": ({"gt_groups": torch.tensor([6])}, TypeError, "gt_groups is a Tensor, expected a list"),
        "no images": ({"gt_groups": []}, ValueError, "gt_groups is empty, expected a count"),
        "labels elsewhere": (
            {"cls": torch.ones(6, dtype=torch.int64, device="meta")},
            ValueError,
            "cls.* is on meta, expected cpu, where class_embed is",
        ),
        "boxes elsewhere": (
            {"bboxes": torch.ones(6, 4, device="meta")},
            ValueError,
            "bboxes.* is on meta, expected cpu, where class_embed is",
        ),
    }
)
def test_targets(case):
    change, error, message = case
    arguments = good()
    with pytest.raises(error, match=message):
        get_cdn_group(**arguments | {"batch": arguments["batch"] | change})


@pytest.mark.parametrize("coordinate", [math.nan, math.inf, -math.inf])
def test_boxes_that_are_not_finite(coordinate):
    arguments = good()
    arguments["batch"]["bboxes"][3, 2] = coordinate
    with pytest.raises(ValueError, match=rf"bboxes.* has \[.*{coordinate}.*\] at \[3\], expected finite numbers"):
        get_cdn_group(**arguments)


@pytest.mark.parametrize("key", ["cls", "bboxes", "gt_groups"])
def test_a_batch_without_an_entry(key):
    arguments = good()
    del arguments["batch"][key]
    with pytest.raises(KeyError, match=f"batch has the keys .*: '{key}' is missing"):
        get_cdn_group(**arguments)


def test_nothing_is_drawn_before_the_arguments_are_checked():
    before = torch.get_rng_state()
    test_boxes_that_are_not_finite(math.nan)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_good_is_not_refused():
    assert get_cdn_group(**good())[0] is not None
