"""The targets of real images, whatever file they come from, and which of its boxes a loss can be asked about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

Identity = int | float | str
"""COCO's image ids are integers; other datasets name their images."""

ROUNDING_IN_PIXELS = 2.0
"""A box that sticks out by no more is rounded, as some of COCO's are; one that sticks out further may be wrong."""
ROUNDING_IN_SHARES = 0.01
"""The same where only shares of the image are known; Ultralytics accepts coordinates up to 1.01."""

Boxes = Float64[np.ndarray, "boxes 4"]
Sizes = Float64[np.ndarray, "boxes 2"]
Indices = Int64[np.ndarray, " boxes"]
Chosen = Bool[np.ndarray, " boxes"]


@dataclass(frozen=True, eq=False)
class ImageTargets:
    """The targets of one image, in the order in which the file annotates it.

    Attributes:
        image_id: the id that the file gives the image; the name of a label file, without its suffix.
        classes: in [0, C).
        boxes: centre x, centre y, width, height as shares of the image's size, in [0, 1], sizes above 0.
    """

    image_id: Identity
    classes: Int64[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]


@dataclass(frozen=True, eq=False)
class CocoTargets:
    """The targets of all images of a COCO file, or of a folder of YOLO labels, images without boxes included.

    A box is left out for the first reason that holds, in the order of `summary`.

    Attributes:
        path: the file or folder, as it was given.
        images: one entry per image, in the order of the file, or of the names in the folder.
        num_classes: C, the number of categories, annotated or not.
        crowd_left_out: boxes left out because they hold a crowd; COCO's own evaluation does not count them.
        degenerate_left_out: boxes left out because they have no width or no height in float32.
        ignored_left_out: boxes left out because the file says `ignore`.
        negative_left_out: boxes left out because their width or height is negative.
        outside_left_out: boxes left out because they lie outside their image.
        clipped: boxes that stuck out of their image by more than rounding, and were clipped to it.
        largest_cut: what was cut from one of these at most, along one side.
        in_pixels: whether that is in pixels; otherwise, as in YOLO labels, it is a share of the image.
    """

    path: Path
    images: tuple[ImageTargets, ...]
    num_classes: int
    crowd_left_out: int = 0
    degenerate_left_out: int = 0
    ignored_left_out: int = 0
    negative_left_out: int = 0
    outside_left_out: int = 0
    clipped: int = 0
    largest_cut: float = 0.0
    in_pixels: bool = True

    @property
    def summary(self) -> str:
        """One line: what there is, how many boxes were left out, and how many were clipped."""
        counts = [len(image.classes) for image in self.images]
        line = (
            f"{len(counts)} images, {sum(counts)} boxes, {counts.count(0)} without boxes, "
            f"at most {max(counts)} in one, {self.num_classes} classes"
        )
        return line + self._left_out() + self._clipped()

    def _left_out(self) -> str:
        left_out = {
            "crowd": self.crowd_left_out,
            "ignored": self.ignored_left_out,
            "of negative size": self.negative_left_out,
            "outside its image" if self.outside_left_out == 1 else "outside their images": self.outside_left_out,
            "degenerate": self.degenerate_left_out,
        }
        named = [f"{count} {kind}" for kind, count in left_out.items() if count]
        return f"; left out: {', '.join(named)}" if named else ""

    def _clipped(self) -> str:
        if not self.clipped:
            return ""
        cut = f"{round(self.largest_cut):.9g} pixels" if self.in_pixels else f"{self.largest_cut:.0%} of the image"
        return f"; clipped: {self.clipped}, by up to {cut}"


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """Boxes as a file gives them, in pixels or in shares of the image.

    Attributes:
        owners: which image each is in.
        classes: in [0, C).
        start: left and top.
        extent: width and height.
        image_sizes: width and height of the image that each is in.
    """

    owners: Indices
    classes: Indices
    start: Sizes
    extent: Sizes
    image_sizes: Sizes

    def only(self, chosen: Chosen) -> GivenBoxes:
        """Some of the boxes."""
        fields = self.owners, self.classes, self.start, self.extent, self.image_sizes
        return GivenBoxes(*(field[chosen] for field in fields))

    def negative(self) -> Chosen:
        """Whether the width or the height is below 0."""
        return _along_any_axis(self.extent < 0)

    def outside(self) -> Chosen:
        """Whether a box lies beyond an edge of its image; one that touches it does not."""
        return _along_any_axis((self.start > self.image_sizes) | (self.start < -self.extent))

    def cuts(self) -> Float64[np.ndarray, " boxes"]:
        """How far each sticks out of its image at most; 0 or less if it does not."""
        out: Float64[np.ndarray, " boxes"] = np.maximum(-self.start, self.start + self.extent - self.image_sizes).max(1)
        return out

    def clipped(self) -> Boxes:
        """Each box within its image, in normalised centre form."""
        sizes = self.image_sizes
        near, far = np.clip(self.start, 0, sizes), np.clip(self.start + self.extent, 0, sizes)
        return np.concatenate([(near + far) / 2 / sizes, (far - near) / sizes], axis=1)


def targets_of(
    path: Path, image_ids: Sequence[Identity], num_classes: int, given: GivenBoxes, *, in_pixels: bool = True
) -> CocoTargets:
    """The targets of each image: those of its boxes that have an area within it.

    Boxes whose edges coincide in float32, the dtype in which ports compute, are left out too: COCO has a few of
    width or height 0, and a loss that adds no eps to its IoU divides by zero on them.

    Args:
        path: where they come from.
        image_ids: one per image, in order; `given.owners` are positions in it.
        num_classes: C.
        given: the boxes, without those that are left out for what their file says of them.
        in_pixels: whether they are in pixels, and not in shares of the image.
    """
    negative = given.negative()
    outside = given.outside() & ~negative
    within = given.only(~(negative | outside))
    boxes = within.clipped()
    degenerate = _without_area(boxes)
    kept, cuts = within.only(~degenerate), within.cuts()[~degenerate]
    cuts = cuts[cuts > (ROUNDING_IN_PIXELS if in_pixels else ROUNDING_IN_SHARES)]
    return CocoTargets(
        path=path,
        images=tuple(_by_image(image_ids, kept.owners, kept.classes, boxes[~degenerate])),
        num_classes=num_classes,
        degenerate_left_out=int(degenerate.sum()),
        negative_left_out=int(negative.sum()),
        outside_left_out=int(outside.sum()),
        clipped=len(cuts),
        largest_cut=float(cuts.max(initial=0.0)),
        in_pixels=in_pixels,
    )


def _without_area(boxes: Boxes) -> Chosen:
    """Whether opposite edges coincide once centre and size are float32, as a port sees them."""
    centre, half = boxes[:, :2].astype(np.float32), boxes[:, 2:].astype(np.float32) / 2
    return _along_any_axis(centre - half >= centre + half)


def _along_any_axis(holds: Bool[np.ndarray, "boxes 2"]) -> Chosen:
    either: Chosen = np.logical_or.reduce(holds, axis=1)
    return either


def _by_image(image_ids: Sequence[Identity], owners: Indices, classes: Indices, boxes: Boxes) -> Iterable[ImageTargets]:
    """The targets of each image in turn; `owners` are positions in `image_ids`."""
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners, minlength=len(image_ids)))
    for image_id, start, end in zip(image_ids, [0, *ends[:-1]], ends, strict=True):
        mine = order[start:end]
        yield ImageTargets(image_id, classes[mine], boxes[mine])
