"""Targets from a COCO annotations file, so that ports are also judged on the boxes of real images.

Source: COCO Consortium, "Data format", https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_conformance.coco_file import Annotation, Document, Identity, TargetsFileError, read_document

__all__ = ["CocoTargets", "ImageTargets", "TargetsFileError", "read_targets"]

FIX_THE_FILE = "fix or remove the entry"

Boxes = Float64[np.ndarray, "boxes 4"]
Sizes = Float64[np.ndarray, "boxes 2"]
"""Width and height in pixels of the image that each box is in."""
Indices = Int64[np.ndarray, " boxes"]


@dataclass(frozen=True, eq=False)
class ImageTargets:
    """The targets of one image, in the order in which the file annotates it.

    Attributes:
        image_id: the id that the file gives the image.
        classes: in [0, C).
        boxes: centre x, centre y, width, height as shares of the image's size, in [0, 1], sizes above 0.
    """

    image_id: Identity
    classes: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]


@dataclass(frozen=True, eq=False)
class CocoTargets:
    """The targets of all images of a file, in file order, images without boxes included.

    Attributes:
        path: the file, as it was given.
        images: one entry per image.
        num_classes: C, the number of categories, annotated or not.
        crowd_left_out: boxes left out because they hold a crowd; COCO's own evaluation does not count them.
        degenerate_left_out: other boxes left out because they have no width or no height, see `read_targets`.
    """

    path: Path
    images: tuple[ImageTargets, ...]
    num_classes: int
    crowd_left_out: int
    degenerate_left_out: int

    @property
    def summary(self) -> str:
        """One line: what the file holds, and how many boxes were left out."""
        counts = [len(image.classes) for image in self.images]
        line = (
            f"{len(counts)} images, {sum(counts)} boxes, {counts.count(0)} without boxes, "
            f"at most {max(counts)} in one, {self.num_classes} classes"
        )
        left_out = {"crowd": self.crowd_left_out, "degenerate": self.degenerate_left_out}
        named = [f"{count} {kind}" for kind, count in left_out.items() if count]
        return f"{line}; left out: {', '.join(named)}" if named else line


def read_targets(path: str | os.PathLike[str]) -> CocoTargets:
    """The targets of every image in a COCO object-detection annotations file.

    Categories are numbered 0 to C - 1 by ascending id. Boxes that stick out of their image, as some of COCO's
    do by rounding, are clipped to it. Crowd boxes are left out. So are boxes whose edges coincide in float32,
    the dtype in which ports compute: COCO has a few of width or height 0, and a loss that adds no eps to its
    IoU divides by zero on them.

    Args:
        path: a JSON file with `images`, `annotations` and `categories`; other fields do not matter.

    Returns:
        The targets, with the numbers of boxes that were left out.

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
    category_ids = [category.id for category in document.categories]
    _refuse_duplicates("images", image_ids)
    _refuse_duplicates("categories", category_ids)
    annotations = document.annotations
    owners = _positions(annotations, "image_id", "images", image_ids)
    classes = _positions(annotations, "category_id", "categories", sorted(category_ids))
    sizes = np.array([(image.width, image.height) for image in document.images], dtype=np.float64)
    boxes = _normalised_boxes(annotations, sizes[owners])

    crowd = np.array([bool(annotation.iscrowd) for annotation in annotations], dtype=bool)
    degenerate = _without_area(boxes) & ~crowd
    kept = ~(crowd | degenerate)
    return CocoTargets(
        path=path,
        images=tuple(_by_image(image_ids, owners[kept], classes[kept], boxes[kept])),
        num_classes=len(category_ids),
        crowd_left_out=int(crowd.sum()),
        degenerate_left_out=int(degenerate.sum()),
    )


def _refuse_duplicates(section: str, ids: Sequence[Identity]) -> None:
    """Refuse a list in which two entries have the same id."""
    first: dict[Identity, int] = {}
    for index, identity in enumerate(ids):
        if first.setdefault(identity, index) != index:
            raise TargetsFileError(
                f"{section}[{index}] has the id {identity!r} of {section}[{first[identity]}]: "
                f"ids must be unique; {FIX_THE_FILE}"
            )


def _positions(annotations: list[Annotation], field: str, section: str, ids: Sequence[Identity]) -> Indices:
    """Where in `ids`, the ids of a section, each annotation's `field` stands."""
    index_of = {identity: index for index, identity in enumerate(ids)}
    found = np.array([index_of.get(getattr(each, field), -1) for each in annotations], dtype=np.int64)
    for index in np.flatnonzero(found < 0)[:1].tolist():
        value = getattr(annotations[index], field)
        raise TargetsFileError(
            f"{_name(annotations, index)} has {field} {value!r}, which is not in `{section}`; {FIX_THE_FILE}"
        )
    return found


def _normalised_boxes(annotations: list[Annotation], sizes: Sizes) -> Boxes:
    """The boxes, clipped to their images, in normalised centre form."""
    pixels = np.array([each.bbox for each in annotations], dtype=np.float64).reshape(-1, 4)
    start, extent = pixels[:, :2], pixels[:, 2:]
    _refuse_boxes(annotations, extent < 0, "width and height must not be negative")
    _refuse_boxes(annotations, (start > sizes) | (start < -extent), "it lies outside its image")
    near, far = np.clip(start, 0, sizes), np.clip(start + extent, 0, sizes)
    return np.concatenate([(near + far) / 2 / sizes, (far - near) / sizes], axis=1)


def _refuse_boxes(annotations: list[Annotation], wrong: Bool[np.ndarray, "boxes 2"], reason: str) -> None:
    """Refuse the first box that is wrong along either axis."""
    for index in np.flatnonzero(wrong.any(axis=1))[:1].tolist():
        bbox = ", ".join(f"{number:.12g}" for number in annotations[index].bbox)
        raise TargetsFileError(f"{_name(annotations, index)} has bbox [{bbox}]: {reason}; {FIX_THE_FILE}")


def _without_area(boxes: Boxes) -> Bool[np.ndarray, " boxes"]:
    """Whether opposite edges coincide once centre and size are float32, as a port sees them."""
    centre, half = boxes[:, :2].astype(np.float32), boxes[:, 2:].astype(np.float32) / 2
    coincide: Bool[np.ndarray, " boxes"] = np.logical_or.reduce(centre - half >= centre + half, axis=1)
    return coincide


def _by_image(image_ids: Sequence[Identity], owners: Indices, classes: Indices, boxes: Boxes) -> Iterable[ImageTargets]:
    """The targets of each image in turn; `owners` are positions in `image_ids`."""
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners, minlength=len(image_ids)))
    for image_id, start, end in zip(image_ids, [0, *ends[:-1]], ends, strict=True):
        mine = order[start:end]
        yield ImageTargets(image_id, classes[mine], boxes[mine])


def _name(annotations: list[Annotation], index: int) -> str:
    """How a message names an annotation: its place in the file, and its id where it has one."""
    identity = annotations[index].id
    return f"annotations[{index}]" + ("" if identity is None else f" (id {identity!r})")
