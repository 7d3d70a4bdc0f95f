"""What is read from a COCO annotations file; `test_coco_refusals.py` has the files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_conformance.coco import CocoTargets, read_targets

SAMPLE = Path(__file__).parents[1] / "targets" / "coco_sample.json"

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `instances.json`: text and bytes as they are, anything else as JSON."""

    def to_file(content: Any) -> Path:
        path = tmp_path / "instances.json"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return to_file


def box(bbox: Any = (8, 10, 16, 20), **fields: Any) -> dict[str, Any]:
    """An annotation in image 7, of category 3 unless `fields` say otherwise."""
    return {"id": 4232, "image_id": 7, "category_id": 3, "bbox": bbox, **fields}


def image(identity: Any = 7, width: Any = 64, height: Any = 40) -> dict[str, Any]:
    """An image's entry."""
    return {"id": identity, "width": width, "height": height, "file_name": "a picture.jpg", "license": 2}


def document(*annotations: Any, **sections: Any) -> dict[str, Any]:
    """A file with one image and the category ids 3 and 90, whose sections can be replaced."""
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
    whole = {"images": [image()], "annotations": list(annotations), "categories": categories, **sections}
    return {"info": {"year": 2017}, "licenses": [], **whole}


def without(entry: dict[str, Any], field: str) -> dict[str, Any]:
    """The entry less one field."""
    return {name: value for name, value in entry.items() if name != field}


def boxes_of(targets: CocoTargets) -> list[list[float]]:
    """The boxes of the first image."""
    return [list(row) for row in targets.images[0].boxes]


def test_the_real_sample_is_read_whole() -> None:
    targets = read_targets(SAMPLE)
    counts = [len(entry.boxes) for entry in targets.images]
    assert len(counts) == 196
    assert sum(counts) + targets.crowd_left_out == 1768
    assert (targets.crowd_left_out, targets.degenerate_left_out) == (18, 0)
    assert (counts.count(0), max(counts), targets.num_classes) == (2, 51, 80)


def test_the_real_sample_lies_within_its_images() -> None:
    targets = read_targets(str(SAMPLE))
    boxes = np.concatenate([entry.boxes for entry in targets.images])
    classes = np.concatenate([entry.classes for entry in targets.images])
    half = boxes[:, 2:] / 2
    assert (boxes[:, :2] - half > -1e-12).all()
    assert (boxes[:, :2] + half < 1 + 1e-12).all()
    assert set(classes.tolist()) <= set(range(80))


def test_the_summary_counts_what_is_there_and_what_was_left_out() -> None:
    assert read_targets(SAMPLE).summary == (
        "196 images, 1750 boxes, 2 without boxes, at most 51 in one, 80 classes; left out: 18 crowd"
    )


def test_the_summary_is_silent_where_nothing_was_left_out(write: Write) -> None:
    summary = read_targets(write(document(box()))).summary
    assert summary == "1 images, 1 boxes, 0 without boxes, at most 1 in one, 2 classes"


def test_the_summary_counts_each_box_that_was_left_out_once(write: Write) -> None:
    left_out = [
        *(box(iscrowd=1), box([1, 2, -3, 4], iscrowd=1, ignore=1)),
        *(box(ignore=1), box([8, 8, 0, 8]), box([65, 10, 5, 5]), box([65, 2, -3, 4]), box([1, 2, 3, -0.5])),
    ]
    assert read_targets(write(document(box(), *left_out))).summary == (
        "1 images, 1 boxes, 0 without boxes, at most 1 in one, 2 classes; "
        "left out: 2 crowd, 1 ignored, 2 of negative size, 1 outside its image, 1 degenerate"
    )


def test_a_pixel_box_becomes_a_normalised_centre_box(write: Write) -> None:
    targets = read_targets(write(document(box([8, 10, 16, 20]))))
    assert boxes_of(targets) == [[0.25, 0.5, 0.25, 0.5]]
    assert targets.images[0].boxes.dtype == np.float64
    assert targets.images[0].classes.dtype == np.int64


def test_categories_are_numbered_by_ascending_id(write: Write) -> None:
    targets = read_targets(write(document(box(category_id=90), box(category_id=3))))
    assert targets.images[0].classes.tolist() == [1, 0]
    assert targets.num_classes == 2


def test_images_keep_the_order_of_the_file_and_empty_ones_stay(write: Write) -> None:
    boxes = [box([0, 0, width, 40], image_id=owner) for owner, width in ((7, 16), (9, 32), (7, 64))]
    targets = read_targets(write(document(*boxes, images=[image(9), image(8), image(7)])))
    assert [entry.image_id for entry in targets.images] == [9, 8, 7]
    widths = [entry.boxes[:, 2].tolist() for entry in targets.images]
    assert widths == [[0.5], [], [0.25, 1.0]]


def test_an_image_without_boxes_has_empty_arrays_of_the_right_shape(write: Write) -> None:
    (only,) = read_targets(write(document())).images
    assert (only.classes.shape, only.boxes.shape) == ((0,), (0, 4))


def test_a_box_that_sticks_out_is_clipped(write: Write) -> None:
    targets = read_targets(write(document(box([-16, 20, 48, 20.5]))))
    assert boxes_of(targets) == [[0.25, 0.75, 0.5, 0.5]]
    assert (targets.clipped, targets.largest_cut) == (1, 16)


def test_boxes_that_lose_more_than_rounding_are_told(write: Write) -> None:
    corners = [box([300, 240, 340, 460]), box([600, 10, 620, 30]), box([0, 0, 640, 480])]
    targets = read_targets(write(document(*corners, images=[image(width=640, height=480)])))
    assert targets.summary.endswith("2 classes; clipped: 2, by up to 580 pixels")


@pytest.mark.parametrize("bbox", [[-2, 0, 16, 20], [48, 20, 17, 22], [0, 0, 64.4, 40.4]])
def test_a_cut_of_up_to_two_pixels_is_rounding(write: Write, bbox: list[float]) -> None:
    targets = read_targets(write(document(box(bbox))))
    assert (targets.clipped, len(boxes_of(targets))) == (0, 1)


def test_boxes_that_are_left_out_are_not_counted_as_clipped(write: Write) -> None:
    targets = read_targets(
        write(document(box([-16, 20, 48, 20], iscrowd=1), box([-16, 8, 16, 8]), box([-16, 8, 8, 8])))
    )
    assert (targets.clipped, targets.largest_cut) == (0, 0)


@pytest.mark.parametrize("bbox", [[64.5, 2, 3, 4], [1, -9, 3, 4], [1, 40.5, 3, 4], [-9, 2, 3, 4], [1e308, 2, 1e308, 4]])
def test_boxes_outside_their_image_are_left_out_and_counted(write: Write, bbox: list[float]) -> None:
    targets = read_targets(write(document(box(bbox), box())))
    assert (targets.outside_left_out, len(boxes_of(targets))) == (1, 1)


@pytest.mark.parametrize("bbox", [[1, 2, -3, 4], [1, 2, 3, -0.5], [65, 2, -3, -4]])
def test_boxes_of_negative_size_are_left_out_and_counted(write: Write, bbox: list[float]) -> None:
    targets = read_targets(write(document(box(bbox), box())))
    assert (targets.negative_left_out, targets.outside_left_out, len(boxes_of(targets))) == (1, 0, 1)


def test_a_file_of_which_every_box_is_left_out_has_images_without_boxes(write: Write) -> None:
    targets = read_targets(write(document(box([65, 2, 3, 4]), box([65, 2, 3, 4]))))
    assert targets.summary.endswith(
        "0 boxes, 1 without boxes, at most 0 in one, 2 classes; left out: 2 outside their images"
    )


@pytest.mark.parametrize("crowd", [1, True, 1.0, "1"])
def test_crowd_boxes_are_left_out_and_counted(write: Write, crowd: Any) -> None:
    targets = read_targets(write(document(box(iscrowd=crowd), box())))
    assert (targets.crowd_left_out, len(boxes_of(targets))) == (1, 1)


@pytest.mark.parametrize("ignore", [1, True, 1.0, "1"])
def test_boxes_to_ignore_are_left_out_and_counted_apart_from_crowds(write: Write, ignore: Any) -> None:
    kept = (box(ignore=0), box(ignore="0"), box(ignore=""), box(ignore=["whatever"]))
    targets = read_targets(write(document(box(ignore=ignore), *kept)))
    assert (targets.ignored_left_out, targets.crowd_left_out, len(boxes_of(targets))) == (1, 0, len(kept))


RLE = {"size": [40, 64], "counts": "a0b"}


@pytest.mark.parametrize(
    "fields", [{}, {"iscrowd": 0}, {"iscrowd": False}, {"iscrowd": None}, {"iscrowd": "0"}, {"segmentation": RLE}]
)
def test_a_box_is_no_crowd_unless_it_says_so(write: Write, fields: dict[str, Any]) -> None:
    targets = read_targets(write(document(box(**fields))))
    assert (targets.crowd_left_out, len(boxes_of(targets))) == (0, 1)


@pytest.mark.parametrize(
    "bbox", [[8, 8, 0, 8], [8, 8, 8, 0], [64, 0, 8, 8], [-8, 0, 8, 8], [32, 8, 1e-7, 8], [8, 39.999999, 8, 8]]
)
def test_boxes_without_area_in_float32_are_left_out_and_counted(write: Write, bbox: list[float]) -> None:
    targets = read_targets(write(document(box(bbox), box())))
    assert (targets.degenerate_left_out, len(boxes_of(targets))) == (1, 1)
    assert "left out: 1 degenerate" in targets.summary


def test_a_crowd_box_without_area_is_counted_once(write: Write) -> None:
    targets = read_targets(write(document(box([8, 8, 0, 0], iscrowd=1))))
    assert (targets.crowd_left_out, targets.degenerate_left_out) == (1, 0)


@pytest.mark.parametrize(("mine", "its"), [("a", "a"), (7, 7.0), (7.0, 7), (2**80, 2**80)])
def test_ids_may_be_words_or_numbers_of_any_kind(write: Write, mine: Any, its: Any) -> None:
    targets = read_targets(write(document(box(image_id=mine), images=[image(its, width=64.0)])))
    assert len(boxes_of(targets)) == 1


@pytest.mark.parametrize(("mine", "its"), [("3", 3), (3, "3"), ("3", "3"), ("03", 3.0)])
def test_category_ids_may_be_whole_numbers_in_quotes(write: Write, mine: Any, its: Any) -> None:
    targets = read_targets(write(document(box(category_id=mine), categories=[{"id": "20"}, {"id": its}])))
    assert (targets.images[0].classes.tolist(), targets.num_classes) == ([0], 2)


def test_an_annotation_needs_no_id_and_a_file_no_further_fields(write: Write) -> None:
    sections = {"images": [image()], "annotations": [without(box(), "id")], "categories": [{"id": 3}]}
    assert len(boxes_of(read_targets(write(sections)))) == 1


def test_a_byte_order_mark_and_other_alphabets_are_read(write: Write) -> None:
    text = json.dumps(document(box(caption="Zahnbürste")), ensure_ascii=False)
    assert len(boxes_of(read_targets(write(b"\xef\xbb\xbf" + text.encode())))) == 1
