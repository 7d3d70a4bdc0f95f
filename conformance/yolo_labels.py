"""Targets from a folder of YOLO label files, one for each image.

Source: Ultralytics, "Object detection datasets overview", https://docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detr_conformance.coco_file import TargetsFileError
from detr_conformance.errors import one_line
from detr_conformance.image_targets import CocoTargets, GivenBoxes, targets_of

SUFFIX = ".txt"
"""Of a label file."""
NAMES = "classes.txt"
"""Beside label files this holds the names of the classes, one a line, as LabelImg writes it."""
LONGEST_WORD = 40
"""Characters that a message shows of a word which is no number."""
FIRST_PIXEL = 2.0
"""A box can stick out of its image, but no share of the image is so far from [0, 1]: such a number is in pixels."""
MOST_CLASSES = 100_000
"""No data set has so many; beyond it, logits of every class would not fit into memory."""

WANTED = "pass a folder of YOLO label files, such as labels/val, or a COCO file"
FORMAT = "expected `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`"
FIX_THE_LINE = "fix or remove the line"


class Label(NamedTuple):
    """One line of a label file, in shares of the image."""

    number: int
    left: float
    top: float
    width: float
    height: float


def read_labels(folder: str | os.PathLike[str]) -> CocoTargets:
    """The targets of every image that has a label file in a folder, by the names of the files.

    A line is `class cx cy w h`, or a polygon `class x1 y1 x2 y2 x3 y3 ...`, of which the enclosing box is taken;
    numbers are shares of the image in [0, 1]. A file without lines is an image without boxes. There are as many
    classes as names in `classes.txt`, or else as the largest class says. Boxes that stick out are clipped, and
    boxes without area within their image are left out, as those of COCO.

    Args:
        folder: holds files that end in .txt; other files, hidden ones and folders in it do not matter.

    Returns:
        The targets, with the numbers of boxes that were left out and clipped.

    Raises:
        TargetsFileError: a label cannot be used, or there is none; one sentence says why, where and what to do.

    Source: https://docs.ultralytics.com/datasets/detect.
    """
    folder = Path(folder)
    names = folder / NAMES
    label_files = [path for path in _text_files(folder) if path != names]
    if not label_files:
        raise TargetsFileError(f"{folder}: has no label files (.txt); {WANTED}")
    most = _number_of_names(names) if names.is_file() else None
    by_file = [list(_labels(path, most)) for path in label_files]
    labels = [label for each in by_file for label in each]
    owners = np.repeat(np.arange(len(by_file), dtype=np.int64), [len(each) for each in by_file])
    num_classes = most or max((label.number for label in labels), default=0) + 1
    return targets_of(
        folder, [path.stem for path in label_files], num_classes, _given_boxes(labels, owners), in_pixels=False
    )


def _text_files(folder: Path) -> list[Path]:
    """The files that may hold labels, by name."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() == SUFFIX and not path.is_dir()]
    except NotADirectoryError:
        raise TargetsFileError(f"{folder}: is one file; {WANTED}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path.
        raise _unreadable(folder, error) from None
    # macOS leaves a hidden file ._x.txt beside x.txt on foreign disks, which is not text.
    return sorted(path for path in found if not path.name.startswith("."))


def _unreadable(path: Path, error: Exception) -> TargetsFileError:
    reason = getattr(error, "strerror", None) or error
    return TargetsFileError(f"{path}: cannot be read ({reason}); {WANTED}")


def _read_text(path: Path) -> str:
    """What a file holds, without the byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TargetsFileError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _number_of_names(path: Path) -> int:
    """How many classes a file names; blank lines at its end name none."""
    names = _read_text(path).rstrip().splitlines()
    if not names:
        raise TargetsFileError(f"{path}: is empty; write the name of each class on a line, or remove the file")
    return len(names)


def _labels(path: Path, most: int | None) -> Iterator[Label]:
    """The labels in a file; blank lines are skipped."""
    for index, line in enumerate(_read_text(path).splitlines(), start=1):
        words = line.split()
        if words:
            try:
                yield _label(words, most)
            except TargetsFileError as error:
                raise TargetsFileError(f"{path}: line {index}: {error}") from None


def _label(words: list[str], most: int | None) -> Label:
    """The label of one line, of which each word must be a number."""
    number, *shares = map(_finite, words)
    _refuse_class(number, most)
    if len(shares) < 4 or len(shares) % 2:
        hint = " (with a confidence or keypoints?)" if len(shares) > 4 else ""
        raise TargetsFileError(f"{len(shares)} numbers after the class{hint}, {FORMAT}; {FIX_THE_LINE}")
    for share in shares:
        if not -FIRST_PIXEL < share < FIRST_PIXEL:
            raise TargetsFileError(
                f"{share:.12g} looks like pixels, expected shares of the image in [0, 1]; "
                "divide x and w by the image's width, y and h by its height"
            )
    return Label(int(number), *_box(shares))


def _finite(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TargetsFileError(f"{one_line(word, LONGEST_WORD)!r} is no finite number, {FORMAT}; {FIX_THE_LINE}")
    return number


def _refuse_class(number: float, most: int | None) -> None:
    """Refuse a class that is no index, or has no name where classes have names."""
    if not (number.is_integer() and 0 <= number < MOST_CLASSES):
        raise TargetsFileError(f"class {number:.12g}, expected a whole number from 0 on; {FIX_THE_LINE}")
    if most is not None and number >= most:
        raise TargetsFileError(
            f"class {number:.0f}, but {NAMES} names only those from 0 to {most - 1}; add its name, or {FIX_THE_LINE}"
        )


def _box(shares: list[float]) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box in centre form, or of a polygon."""
    if len(shares) == 4:
        x, y, width, height = shares
        return x - width / 2, y - height / 2, width, height
    xs, ys = shares[::2], shares[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _given_boxes(labels: list[Label], owners: np.ndarray) -> GivenBoxes:
    """The labels as arrays; every image has the size 1."""
    table = np.array(labels, dtype=np.float64).reshape(-1, 5)
    classes, start, extent = table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3:]
    return GivenBoxes(owners, classes, start, extent, np.ones_like(start))
