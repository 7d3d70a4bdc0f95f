"""Lines about indices that a port returned: matchings by their cost, and pairings of denoising queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detr_conformance.packets.lines import Line, text
from detr_conformance.properties import answers, oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Matching
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import linear_sum_assignment
from detr_conformance.reference.rounding import plain


def matching_lines(answer: object, case: LossCase, judged: PortUnderTest) -> list[Line]:
    """For each layer and image what its pairs cost, beside what the cheapest ones do."""
    try:
        layers = answers.matchings(answer)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "list")]
    counts = [len(images) for images in layers]
    if counts != [case.images] * case.layers:
        return []  # the message says it
    costs = oracle.matching_costs(case, judged.spec)
    return [
        _cost_line(case, layer, image, costs[layer][image], layers[layer][image])
        for layer in range(case.layers)
        for image in range(case.images)
    ]


def pairing_lines(answer: object, case: LossCase) -> list[Line]:
    """For each image its pairs (slot, target)."""
    if case.denoising is None:
        return []
    try:
        images = answers.pairs(answer)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "list")]
    return list(_pairings(images, case))


def _pairings(images: list[Matching], case: LossCase) -> Iterator[Line]:
    denoising = case.denoising
    assert denoising is not None  # noqa: S101  # callers have looked
    for image, (slots, targets) in enumerate(images[: case.images]):
        wanted = np.tile(denoising.gt_idx[image], denoising.num_group)
        right = sorted(zip(denoising.pos_idx[image].tolist(), wanted.tolist(), strict=True))
        came = sorted(zip(slots.tolist(), targets.tolist(), strict=False))
        yield text("pairs", f"(slot, target) of image {image}", [image], came, right)


def _cost_line(case: LossCase, layer: int, image: int, tracked: np.ndarray, pair: Matching) -> Line:
    """The cost of one image's pairs; inf if they are none."""
    cost, own = plain(tracked), case.of_image(image)
    errors = oracle.allowed_cost_error(tracked, case.dtype)
    best = linear_sum_assignment(cost)
    # One row and one column more, for indices that do not exist: they and other images' targets cost inf.
    padded, allowed = (np.full((case.queries + 1, case.targets + 1), fill) for fill in (np.inf, 0.0))
    padded[:-1, own], allowed[:-1, own] = cost, errors
    right = list(zip(best.rows.tolist(), (best.columns + own.start).tolist(), strict=True))
    came = _pairs(pair, padded.shape, len(right))
    got, expected = (np.inf if pairs is None else sum(padded[each] for each in pairs) for pairs in (came, right))
    # What both have cancels.
    reach = sum(allowed[each] for each in set(right) ^ set(right if came is None else came))
    rounding = len(right) * np.finfo(float).eps * float(np.abs(cost).max(initial=0.0))
    return Line(
        what=f"cost of the pairs of layer {layer}, image {image}",
        reading="cost",
        at=[[layer, image]],
        expected=repr(float(expected)),
        allowed=repr(float(reach + rounding)),
        got=repr(float(got)),
        cost=[[repr(each) for each in row] for row in padded.tolist()],
        pairs=len(right),
    )


def _pairs(pair: Matching, shape: tuple[int, ...], wanted: int) -> list[tuple[int, int]] | None:
    """The pairs, those that do not exist in the last row or column; None if they are not so many, or not one to one."""
    queries, targets = (side.tolist() for side in pair)
    if not len(set(queries)) == len(set(targets)) == len(queries) == len(targets) == wanted:
        return None
    rows, columns = (side.clip(-1, size - 1) for side, size in zip(pair, shape, strict=True))
    return list(zip((rows % shape[0]).tolist(), (columns % shape[1]).tolist(), strict=True))
