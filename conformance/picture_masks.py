"""The masks in a picture: that of each target, and beside it the predicted one of the query it is matched with."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from jaxtyping import Bool, Float

from detr_conformance.properties.case_masks import Masks, Size
from detr_conformance.reference.classification import sigmoid
from detr_conformance.svg import LINE, MARGIN, PANEL, digits, rectangle, text

SIDE, NAME, BETWEEN, APART = 82.0, 28.0, 6.0, 14.0
"""The longer side of a tile, the room for its name, the space after it, and what is added to that after a pair.

Two pairs of square tiles fill a row.
"""
LEVELS = 10
"""Shades that probabilities are told apart by."""
MOST_PIXELS, MOST_DOTS = 24, 64
"""Pixels along a side of a mask, and points on it; more could not be told apart."""

Pair = tuple[int, int]
"""A query and a target that are matched, the target counted through the batch."""


class Tile(NamedTuple):
    """Where a mask is drawn."""

    left: float
    top: float
    width: float
    height: float


def draw_masks(root: ET.Element, masks: Masks, image: int, pairs: list[Pair], top: float) -> float:
    """Draw the masks of an image's pairs in the main layer, as large as the batch; returns how far down they go."""
    for line, words in enumerate(["masks of the cheapest pairs", *_notes(masks, image, pairs)]):
        top += LINE if line else 6.0
        text(root, MARGIN, top, words, "faint" if line else "")
    for pair, tile in zip(pairs, _tiles(masks.size, len(pairs), top + 8), strict=True):
        _pair(root, masks, image, pair, tile)
        top = tile.top + tile.height + LINE
    return top


def _tiles(size: Size, count: int, top: float) -> list[Tile]:
    """Those of targets: with one of a query to the right of each, as many in a row as there is room for."""
    height, width = (SIDE * pixels / max(size) for pixels in size)
    across, down = 2 * (max(width, NAME) + BETWEEN) + APART, height + 2 * LINE
    in_row = int((PANEL + BETWEEN + APART) / across)
    places = (divmod(place, in_row) for place in range(count))
    return [Tile(MARGIN + column * across, top + row * down, width, height) for row, column in places]


def _notes(masks: Masks, image: int, pairs: list[Pair]) -> list[str]:
    """What is to be seen in the tiles, and what is not."""
    predicted, notes = masks.pred_masks[-1, image], list[str]()
    for owners, size in (("targets", masks.size), ("queries", predicted.shape[1:])):
        if _step(size) > 1:
            notes.append(f"masks of {owners}: one pixel of {_step(size)} x {_step(size)} is shown")
    if masks.loss_points is not None:
        count = masks.loss_points.shape[1]
        shown = "points" if count <= MOST_DOTS else f"the first {MOST_DOTS} of {count} points"
        notes.append(f"dots: {shown} of the losses")
    if masks.sizes[image] != masks.size:
        own, whole = (f"{height} x {width}" for height, width in (masks.sizes[image], masks.size))
        notes.append(f"dashed: the image, {own} of the batch's {whole} pixels")
    broken = [f"q{query}" for query, _ in pairs if not np.isfinite(predicted[query]).all()]
    return [*notes, f"{', '.join(broken)}: not finite, in red"] if broken else notes


def _pair(root: ET.Element, masks: Masks, image: int, pair: Pair, tile: Tile) -> None:
    """The target's tile, and to the right of it the query's."""
    query, target = pair
    logits = masks.pred_masks[-1, image, query]
    probabilities = np.where(np.isfinite(logits), sigmoid(logits), np.nan)
    beside = tile._replace(left=tile.left + max(tile.width, NAME) + BETWEEN)
    _mask(root, tile, masks.gt_masks[target], "target")
    _mask(root, beside, probabilities, "query")
    for each, name, kind in ((tile, f"t{target}", "target"), (beside, f"q{query}", "query")):
        _frames(root, each, masks, image)
        _dots(root, each, masks, target)
        text(root, each.left + each.width / 2, each.top + each.height + 13, name, f"{kind} name middle")


def _mask(root: ET.Element, tile: Tile, mask: Float[np.ndarray, "height width"], kind: str) -> None:
    """Fill a tile: the more probable a pixel, the stronger the colour, and one that is NaN in a colour of its own."""
    step = _step(mask.shape)
    levels = np.round(_thinned(mask, step) * LEVELS)
    fills = [(levels == level, f"{kind}-mask", level / LEVELS) for level in np.unique(levels[levels > 0])]
    scale = f"scale({tile.width / mask.shape[1]:.6g} {tile.height / mask.shape[0]:.6g})"
    place = f"translate({digits(tile.left)} {digits(tile.top)}) {scale}"
    for pixels, colour, strength in (*fills, (np.isnan(levels), "broken-mask", 1.0)):
        if pixels.any():
            shape = {"d": _outline(pixels, step, mask.shape), "transform": place}
            ET.SubElement(root, "path", {**shape, "class": colour, "fill-opacity": f"{strength:g}"})


def _step(size: Size) -> int:
    """Of so many pixels along either side one is shown."""
    return ceil(max(size) / MOST_PIXELS)


def _thinned(mask: Float[np.ndarray, "height width"], step: int) -> Float[np.ndarray, "rows columns"]:
    """Every pixel at such a step along both axes; NaN also stands for the pixels around it that are left out."""
    rows, columns = (np.arange(0, pixels, step) for pixels in mask.shape)
    largest = np.maximum.reduceat(np.maximum.reduceat(mask, rows, axis=0), columns, axis=1)  # NaN where one is NaN
    return np.where(np.isnan(largest), np.nan, mask[::step, ::step])


def _outline(pixels: Bool[np.ndarray, "rows columns"], step: int, size: Size) -> str:
    """Path around the pixels that are shown, neighbours in a row as one rectangle; none goes beyond the mask."""
    rectangles = list[str]()
    for row, chosen in enumerate(pixels):
        top, lower = row * step, min((row + 1) * step, size[0])
        ends = np.flatnonzero(np.diff(chosen, prepend=False, append=False)) * step
        for left, right in np.minimum(ends, size[1]).reshape(-1, 2).tolist():
            rectangles.append(f"M{left} {top}H{right}V{lower}H{left}z")
    return "".join(rectangles)


def _frames(root: ET.Element, tile: Tile, masks: Masks, image: int) -> None:
    """Where the batch ends, and where the image does if it is smaller."""
    rectangle(root, *tile, "frame")
    if masks.sizes[image] != masks.size:
        height, width = (own / whole for own, whole in zip(masks.sizes[image], masks.size, strict=True))
        rectangle(root, tile.left, tile.top, width * tile.width, height * tile.height, "end-of-image")


def _dots(root: ET.Element, tile: Tile, masks: Masks, target: int) -> None:
    """The points at which losses compare this target, if there are any."""
    points = () if masks.loss_points is None else masks.loss_points[target, :MOST_DOTS]
    for x, y in points:
        place = {"cx": digits(tile.left + x * tile.width), "cy": digits(tile.top + y * tile.height)}
        ET.SubElement(root, "circle", {**place, "r": "1.4", "class": "point"})
