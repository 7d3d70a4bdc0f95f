"""NUM: NaN and infinity in every part of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.num import OF_BROKEN_TRAINING, with_weighty_background
from detr_conformance.properties.sure_pairs import MOST_TARGETS, with_sure_pairs
from detr_conformance.properties.transforms import without_targets
from detr_conformance.reference import Losses
from detr_conformance.reference.base_spec import NON_FINITE

LOGIT = 5.0
"""Of the class of its target in a matched query. A broken query whose cost is 0 takes no target from it."""
REQUEST = Request(
    layers=(2, 2),
    images=(2, 2),
    queries=(3, 6),
    classes=(3, 5),
    targets=(1, MOST_TARGETS),
    denoising="where declared",
    special=(),
    logit_scale=3.0,
    real=False,
    extra="never",
)
Entry = Callable[[np.ndarray, np.ndarray], tuple[int, int]]
"""Which query and which column, from the queries of one image that have a target, and their classes."""


@rule(
    "NUM-15",
    source="a training loop must see a broken prediction wherever it is; a box without a target is in no loss",
    request=REQUEST,
    convention=NON_FINITE,
    should=OF_BROKEN_TRAINING,
)
def non_finite_boxes(port: PortUnderTest, case: LossCase) -> None:
    """A NaN in the box of a matched query or of a positive denoising query, in any layer and any image, makes those
    losses of its part NaN that read the box; an infinite centre makes the L1 loss of its part NaN or infinite. Losses
    of other parts stay as they are, and what stands in a box without a target is in no loss, nor in a batch without
    any."""
    sure = with_sure_pairs(case, LOGIT)
    for number in range(sure.layers * sure.images):
        ordinary, denoising = _in_turn((np.nan, np.inf), number + case.queries)
        broken = _with_boxes_aside(sure, ordinary, denoising, _places(sure.pred_bboxes)[number])
        broken = _with_ordinary(broken, "bboxes", ordinary, number, _first(number % 2))
        broken = _with_denoising(broken, "bboxes", denoising, number, _first(number % 2))
        # An overlap is infinity less infinity there, or divided by it, and a port may write it so that this is finite:
        # open where the reference has NaN. The distance is infinite, however it is written.
        _assert_visible(port.loss(broken), port.expected(broken), open_of_denoising=denoising == np.inf)
    for value in (np.nan, np.inf):
        empty = without_targets(case).change(pred_bboxes=np.full_like(case.pred_bboxes, value))
        _assert_visible(port.loss(empty), port.expected(empty))


@rule(
    "NUM-16",
    source="a training loop must see a broken prediction: an infinite logit says that the true class is impossible, or "
    "that a wrong one is certain",
    request=REQUEST,
    convention=NON_FINITE,
    should=OF_BROKEN_TRAINING,
)
def infinite_logits(port: PortUnderTest, case: LossCase) -> None:
    """A logit of -inf of the class of its target in a matched query or in a positive denoising query, and one of +inf
    of a class that is background, in any layer and any image, make the classification loss of its part NaN or infinite.
    All other losses stay as they are."""
    sure = with_sure_pairs(case, LOGIT)
    entries: list[tuple[float, Entry]] = [(-np.inf, _own_class)]
    for weighty in with_weighty_background(port, sure):
        sure = weighty
        entries.append((np.inf, _last))
    for number in range(sure.layers * sure.images):
        (ordinary, where), (denoising, there) = _in_turn(entries, number + case.queries)
        broken = _with_ordinary(sure, "scores", ordinary, number, where)
        broken = _with_denoising(broken, "scores", denoising, number, there)
        expected = port.expected(broken)
        _refuse_other_pairs(port, expected, sure)
        # Some ports take the logarithm of a probability, others add and subtract logits: infinity, or NaN.
        _assert_visible(port.loss(broken), expected)


def _in_turn(both: Sequence[Any], number: int) -> tuple[Any, Any]:
    """One for the ordinary and one for the denoising queries, the other way round each second time."""
    return both[number % len(both)], both[(number + 1) % len(both)]


def _assert_visible(returned: ReturnedLosses, expected: Losses, open_of_denoising: bool | None = None) -> None:
    """Losses that are finite in the reference within their budgets, and all others not finite.

    Args:
        returned: what came.
        expected: what the reference returned.
        open_of_denoising: whether it is the losses of denoising queries, or the others, that are left open where the
            reference has NaN; None for neither.
    """
    __tracebackhide__ = True
    for key, loss in expected.items():
        if np.isfinite(loss.value.values):
            returned.assert_value(key, loss.value)
        elif open_of_denoising != key.endswith("_dn") or np.isinf(loss.value.values):
            came = float(returned.value(key))
            if np.isfinite(came):
                raise AssertionError(f"{key} is {came:.9g}, expected NaN or infinity: a prediction that it reads is")


def _refuse_other_pairs(port: PortUnderTest, expected: Losses, before: LossCase) -> None:
    """Leave a case to others in which a broken query has lost its target: then the box losses are not what they were.

    Raises:
        OutOfScope: this is such a case.
    """
    for key, loss in port.expected(before).items():
        if "class" not in key and float(expected[key]) != float(loss):
            raise OutOfScope("an infinite logit changes who is matched")


def _first(coordinate: int) -> Entry:
    """A coordinate of the first query with a target."""
    return lambda queries, _classes: (queries[0], coordinate)


def _own_class(queries: np.ndarray, classes: np.ndarray) -> tuple[int, int]:
    """The class of the first query with a target."""
    return queries[0], classes[0]


def _last(_queries: np.ndarray, _classes: np.ndarray) -> tuple[int, int]:
    """The last class, which no target has, of the last query."""
    return -1, -1


def _with_boxes_aside(case: LossCase, ordinary: float, of_denoising: float, but: tuple[int, int]) -> LossCase:
    """These values in every box that has no target.

    One layer and image is left out: where a matched box is broken too, all of them cost the same.
    """
    boxes, denoising = case.pred_bboxes.copy(), case.denoising
    for image, count in enumerate(case.gt_groups):
        boxes[:, image, count:] = ordinary
    boxes[but] = case.pred_bboxes[but]
    if denoising is not None:
        dn_boxes = np.full_like(denoising.bboxes, of_denoising)
        for image, slots in enumerate(denoising.pos_idx):
            dn_boxes[:, image, slots] = denoising.bboxes[:, image, slots]
        denoising = replace(denoising, bboxes=dn_boxes)
    return case.change(pred_bboxes=boxes, denoising=denoising)


def _with_ordinary(case: LossCase, field: str, value: float, number: int, entry: Entry) -> LossCase:
    """This value in one layer and image of the ordinary queries; number after number, all of them in turn."""
    predictions = getattr(case, f"pred_{field}")
    layer, image = _places(predictions)[number]
    classes = case.gt_cls[case.of_image(image)]
    row = entry(np.arange(len(classes)), classes)
    return case.change(**{f"pred_{field}": _put(predictions, (layer, image, *row), value)})


def _with_denoising(case: LossCase, field: str, value: float, number: int, entry: Entry) -> LossCase:
    """The same in the denoising queries, if there are any; the last ones come first.

    So two parts are broken in one call. Their losses are apart.
    """
    denoising = case.denoising
    if denoising is None:
        return case
    predictions = getattr(denoising, field)
    places = _places(predictions)
    layer, image = places[-1 - number % len(places)]
    slots = denoising.pos_idx[image]
    if not len(slots):  # none of its targets is denoised
        return case
    row = entry(slots, case.gt_cls[denoising.gt_idx[image]])
    broken: dict[str, Any] = {field: _put(predictions, (layer, image, *row), value)}
    return case.change(denoising=replace(denoising, **broken))


def _places(predictions: np.ndarray) -> list[tuple[int, int]]:
    """Every layer and image."""
    return list(product(range(predictions.shape[0]), range(predictions.shape[1])))


def _put(array: np.ndarray, where: tuple[int, ...], value: float) -> np.ndarray:
    """The array with another entry."""
    changed = array.copy()
    changed[where] = value
    return changed
