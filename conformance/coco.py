"""Targets from a COCO annotations file, so that ports are also judged on the boxes of real images.

Source: COCO Consortium, "Data format", https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detr_conformance.coco_file import (
    Annotation,
    Document,
    TargetsFileError,
    as_number,
    is_set,
    is_to_be_ignored,
    read_document,
)
from detr_conformance.image_targets import CocoTargets, GivenBoxes, Identity, ImageTargets, Indices, targets_of

__all__ = ["CocoTargets", "ImageTargets", "TargetsFileError", "read_targets"]

FIX_THE_FILE = "fix or remove the entry"


def read_targets(path: str | os.PathLike[str]) -> CocoTargets:
    """The targets of every image in a COCO object-detection annotations file.

    Categories are numbered 0 to C - 1 by ascending id. Boxes that stick out of their image are clipped to it.
    Boxes of a crowd, boxes to ignore, and boxes that have no area within their image are left out. All of
    these are counted.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`; other fields do not matter.

    Returns:
        The targets, with the numbers of boxes that were left out and clipped.

    Raises:
        TargetsFileError: the file cannot be used; one sentence that names it says why, where and what to do.

    Source: https://cocodataset.org/#format-data.
    """
    path = Path(path)
    try:
        return _targets(path, read_document(path))
    except TargetsFileError as error:
        raise TargetsFileError(f"{path}: {error}") from None


def _targets(path: Path, document: Document) -> CocoTargets:
    """The records as arrays, checked against each other, grouped by image."""
    image_ids = [image.id for image in document.images]
    category_ids = [as_number(category.id) for category in document.categories]
    _refuse_duplicates("images", image_ids)
    _refuse_duplicates("categories", category_ids)
    given = _given_boxes(document, image_ids, sorted(category_ids))
    crowd = np.array([is_set(each.iscrowd) for each in document.annotations], dtype=bool)
    ignored = np.array([is_to_be_ignored(each) for each in document.annotations], dtype=bool) & ~crowd
    targets = targets_of(path, image_ids, len(category_ids), given.only(~(crowd | ignored)))
    return replace(targets, crowd_left_out=int(crowd.sum()), ignored_left_out=int(ignored.sum()))


def _refuse_duplicates(section: str, ids: Sequence[Identity]) -> None:
    """Refuse a list in which two entries have the same id."""
    first: dict[Identity, int] = {}
    for index, identity in enumerate(ids):
        if first.setdefault(identity, index) != index:
            raise TargetsFileError(
                f"{section}[{index}] has the id {identity!r} of {section}[{first[identity]}]: "
                f"ids must be unique; {FIX_THE_FILE}"
            )


def _given_boxes(document: Document, image_ids: Sequence[Identity], category_ids: Sequence[Identity]) -> GivenBoxes:
    """Every annotation's box, with positions in the lists of ids in place of its own ids."""
    annotations = document.annotations
    images = [each.image_id for each in annotations]
    categories = [as_number(each.category_id) for each in annotations]
    owners = _positions(annotations, "image_id", images, "images", image_ids)
    classes = _positions(annotations, "category_id", categories, "categories", category_ids)
    pixels = np.array([each.bbox for each in annotations], dtype=np.float64).reshape(-1, 4)
    sizes = np.array([(image.width, image.height) for image in document.images], dtype=np.float64)
    return GivenBoxes(owners, classes, pixels[:, :2], pixels[:, 2:], sizes[owners])


def _positions(
    annotations: list[Annotation], field: str, values: Sequence[Identity], section: str, ids: Sequence[Identity]
) -> Indices:
    """Where in `ids`, the ids of a section, each annotation's value of `field` stands."""
    index_of = {identity: index for index, identity in enumerate(ids)}
    found = np.array([index_of.get(value, -1) for value in values], dtype=np.int64)
    for index in np.flatnonzero(found < 0)[:1].tolist():
        name = _name(annotations, index)
        raise TargetsFileError(f"{name} has {field} {values[index]!r}, which is not in `{section}`; {FIX_THE_FILE}")
    return found


def _name(annotations: list[Annotation], index: int) -> str:
    """How a message names an annotation: its place in the file, and its id where it has one."""
    identity = annotations[index].id
    return f"annotations[{index}]" + ("" if identity is None else f" (id {identity!r})")
