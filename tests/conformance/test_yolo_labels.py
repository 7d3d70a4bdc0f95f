"""What is read from a folder of YOLO label files, and what is said about one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detr_conformance.coco import CocoTargets, TargetsFileError
from detr_conformance.targets import read_targets

GOOD = "2 0.5 0.5 0.25 0.5\n"
SAMPLE = Path(__file__).parents[1] / "targets" / "coco_sample.json"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder of files: name without suffix and content."""

    def to_folder(**files: str | bytes) -> Path:
        folder = tmp_path / "labels"
        folder.mkdir()
        for name, content in files.items():
            (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return to_folder


def boxes_of(targets: CocoTargets) -> np.ndarray:
    """The boxes of the first image."""
    return targets.images[0].boxes


def refusal(path: Path) -> str:
    """The sentence with which a path is refused, without its own name."""
    __tracebackhide__ = True
    with pytest.raises(TargetsFileError) as refused:
        read_targets(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert "; " in sentence, "the sentence does not say what to do"
    assert "\n" not in sentence
    return sentence.removeprefix(str(path)).removeprefix("/")


def test_a_file_of_labels_is_an_image_and_the_names_give_the_order(write: Write) -> None:
    targets = read_targets(write(b="1 0.5 0.5 1 1\n0 0.25 0.5 0.5 0.25\n", c="", a=GOOD))
    assert [image.image_id for image in targets.images] == ["a", "b", "c"]
    assert [image.classes.tolist() for image in targets.images] == [[2], [1, 0], []]
    assert targets.images[1].boxes.tolist() == [[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.25]]
    assert (targets.images[2].boxes.shape, targets.images[2].boxes.dtype) == ((0, 4), np.float64)


def test_the_summary_is_that_of_a_coco_file(write: Write) -> None:
    bad = "0 0.5 0.5 0 0.5\n0 1.5 0.5 0.5 0.5\n0 0.5 0.5 -0.5 0.5\n"
    assert read_targets(write(a=GOOD, b=bad)).summary == (
        "2 images, 1 boxes, 1 without boxes, at most 1 in one, 3 classes; "
        "left out: 1 of negative size, 1 outside its image, 1 degenerate"
    )


def test_a_polygon_is_its_enclosing_box(write: Write) -> None:
    targets = read_targets(write(a=f"0 0.25 0.5 0.75 0.25 0.5 1\n{GOOD}"))
    assert boxes_of(targets).tolist() == [[0.5, 0.625, 0.5, 0.75], [0.5, 0.5, 0.25, 0.5]]


def test_a_box_that_sticks_out_is_clipped_and_told(write: Write) -> None:
    targets = read_targets(write(a="0 0.125 0.5 0.5 0.5\n0 0.5 0.5 1.005 1.005"))
    assert boxes_of(targets).tolist() == [[0.1875, 0.5, 0.375, 0.5], [0.5, 0.5, 1, 1]]
    assert targets.summary.endswith("1 classes; clipped: 1, by up to 12% of the image")


@pytest.mark.parametrize(
    ("names", "classes"), [("cat\ndog\nfish\nbird\n", 4), ("cat\r\ndog\r\n\r\nfish", 4), ("cat\ndog\nfish\n\n\n", 3)]
)
def test_names_of_classes_are_counted(write: Write, names: str, classes: int) -> None:
    targets = read_targets(write(a=GOOD, classes=names))
    assert (targets.num_classes, len(targets.images)) == (classes, 1)


def test_images_without_boxes_have_one_class_at_least(write: Write) -> None:
    targets = read_targets(write(a="", b=" \n"))
    assert (targets.num_classes, len(targets.images)) == (1, 2)


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), f"\n\t{GOOD}\n", "2.0 5e-1 .5 0.25 0.5"])
def test_any_way_to_write_numbers_and_lines_is_read(write: Write, text: str) -> None:
    targets = read_targets(write(a=text))
    assert (boxes_of(targets).tolist(), targets.images[0].classes.tolist()) == ([[0.5, 0.5, 0.25, 0.5]], [2])


def test_what_is_no_label_file_does_not_matter(write: Write) -> None:
    folder = write(a=GOOD)
    (folder / "a.jpg").write_bytes(b"\xff\xd8")
    (folder / "._a.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    (folder / "more.txt").mkdir()
    assert len(read_targets(folder).images) == 1


def test_a_coco_file_is_still_read() -> None:
    assert len(read_targets(str(SAMPLE)).images) == 196


LINES = {
    "a class alone": ("2", "0 numbers after the class, expected `class cx cy w h` or"),
    "too few numbers": ("2 0.5 0.5 0.25", "3 numbers after the class, expected `class cx cy w h` or"),
    "a confidence": ("2 0.5 0.5 0.25 0.5 0.9", "5 numbers after the class (with a confidence or keypoints?)"),
    "a word": ("cat 0.5 0.5 0.25 0.5", "'cat' is no finite number, expected `class cx cy w h`"),
    "commas": ("2,0.5,0.5,0.25,0.5", "'2,0.5,0.5,0.25,0.5' is no finite number"),
    "NaN": ("2 0.5 nan 0.25 0.5", "'nan' is no finite number"),
    "infinity": ("2 0.5 0.5 1e999 0.5", "'1e999' is no finite number"),
    "a long word": ("x" * 1000, f"'{'x' * 40}…' is no finite number"),
    "a negative class": ("-1 0.5 0.5 0.25 0.5", "class -1, expected a whole number from 0 on"),
    "a fractional class": ("0.5 0.5 0.5 0.25 0.5", "class 0.5, expected a whole number from 0 on"),
    "a class beyond belief": ("1e18 0.5 0.5 0.25 0.5", "class 1e+18, expected a whole number from 0 on"),
    "pixels": ("2 320 240 64 48", "320 looks like pixels, expected shares of the image in [0, 1]; divide x"),
    "pixels left of the image": ("2 -8 0.5 1 1", "-8 looks like pixels"),
    "pixels of a polygon": ("2 0 0 0 48 64 48", "48 looks like pixels"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_label_is_refused_with_its_place(write: Write, name: str) -> None:
    line, words = LINES[name]
    assert refusal(write(a=GOOD, b=f"{GOOD}\n{line}\n")).startswith(f"b.txt: line 3: {words}")


def test_a_class_without_a_name_is_refused(write: Write) -> None:
    sentence = refusal(write(a=GOOD, classes="cat\ndog"))
    assert sentence.startswith("a.txt: line 1: class 2, but classes.txt names only those from 0 to 1; add its name")


def test_names_of_no_class_are_refused(write: Write) -> None:
    assert refusal(write(a=GOOD, classes="\n")).startswith("classes.txt: is empty; write the name of each class")


def test_what_is_not_text_is_refused(write: Write) -> None:
    assert refusal(write(a=b"2 \xff")).startswith("a.txt: is not UTF-8 text (byte 2); save it")


@pytest.mark.parametrize("files", [{}, {"classes": "cat"}])
def test_a_folder_without_labels_is_refused(write: Write, files: dict[str, str]) -> None:
    assert refusal(write(**files)) == (
        ": has no label files (.txt); pass a folder of YOLO label files, such as labels/val, or a COCO file"
    )


def test_one_label_file_alone_is_refused(write: Write) -> None:
    assert refusal(write(a=GOOD) / "a.txt").startswith(": is one file; pass a folder of YOLO label files")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "labels.txt")


def test_a_label_file_that_cannot_be_read_is_refused(write: Write) -> None:
    folder = write(a=GOOD)
    (folder / "b.txt").symlink_to("nowhere")
    assert refusal(folder).startswith("b.txt: cannot be read (No such file or directory)")
