"""NUM: NaN and infinity in every part of the predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.num import with_weighty_background
from detr_conformance.properties.sure_pairs import MOST_TARGETS, with_sure_pairs
from detr_conformance.reference import Losses
from detr_conformance.reference.base_spec import NON_FINITE

LOGIT = 5.0
"""Of the class of its target in a matched query. A broken query whose cost is 0 takes no target from it."""
REQUEST = Request(
    layers=(2, 3),
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

SHOULD = "a training run that goes well has finite predictions; this says how soon one that goes wrong is noticed"


@rule(
    "NUM-15",
    source="a training loop must see a broken prediction wherever it is; a box without a target is in no loss",
    request=REQUEST,
    convention=NON_FINITE,
    should=SHOULD,
)
def non_finite_boxes(port: PortUnderTest, case: LossCase) -> None:
    """A NaN in the box of a matched query or of a positive denoising query, in any layer and any image, makes those
    losses of its part NaN that read the box; an infinite centre makes the L1 loss of its part NaN or infinite. Losses
    of other parts stay as they are, and what stands in a box without a target is in no loss."""
    sure = with_sure_pairs(case, LOGIT)
    for value in (np.nan, np.inf):
        aside = _with_boxes_aside(sure, value)
        port.loss(aside).assert_values(port.expected(aside))
    for number in range(sure.layers * sure.images):
        broken = _broken(sure, "bboxes", np.nan, number, _first(number % 4))
        port.loss(broken).assert_values(port.expected(broken))
        infinite = _broken(sure, "bboxes", np.inf, number, _first(number % 2))
        # Overlaps are infinity less or by infinity there: what that is depends on how a port writes them.
        _assert_visible(port.loss(infinite), port.expected(infinite), leaves_open=np.isnan)


@rule(
    "NUM-16",
    source="a training loop must see a broken prediction wherever it is: the true class is said to be impossible, or "
    "a wrong one to be certain",
    request=REQUEST,
    convention=NON_FINITE,
    should=SHOULD,
)
def infinite_logits(port: PortUnderTest, case: LossCase) -> None:
    """A logit of -inf of the class of its target in a matched query or in a positive denoising query, and one of +inf
    of a class that is background, in any layer and any image, make the classification loss of its part NaN or infinite.
    All other losses stay as they are."""
    sure = with_sure_pairs(case, LOGIT)
    for number in range(sure.layers * sure.images):
        broken = [_broken(sure, "scores", -np.inf, number, _own_class)]
        broken += [_broken(each, "scores", np.inf, number, _last) for each in with_weighty_background(port, sure)]
        for each in broken:
            expected = port.expected(each)
            _refuse_other_pairs(port, expected, sure)
            # Some ports take the logarithm of a probability, others add and subtract logits: infinity, or NaN.
            _assert_visible(port.loss(each), expected)


def _assert_visible(
    returned: ReturnedLosses, expected: Losses, leaves_open: Callable[[np.ndarray], np.bool_] | None = None
) -> None:
    """Losses that are finite numbers in the reference within their budgets; all others no finite numbers, but those
    that are left open."""
    __tracebackhide__ = True
    for key, loss in expected.items():
        value = loss.value.values
        if np.isfinite(value):
            returned.assert_value(key, loss.value)
        elif leaves_open is None or not leaves_open(value):
            came = float(returned.value(key))
            if np.isfinite(came):
                raise AssertionError(f"{key} is {came:.9g}, expected NaN or infinity: a prediction is infinite")


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


def _with_boxes_aside(case: LossCase, value: float) -> LossCase:
    """This value in every box that has no target."""
    boxes, denoising = case.pred_bboxes.copy(), case.denoising
    for image, count in enumerate(case.gt_groups):
        boxes[:, image, count:] = value
    if denoising is not None:
        dn_boxes = denoising.bboxes.copy()
        for image, slots in enumerate(denoising.pos_idx):
            dn_boxes[:, image, np.setdiff1d(np.arange(dn_boxes.shape[2]), slots)] = value
        denoising = replace(denoising, bboxes=dn_boxes)
    return case.change(pred_bboxes=boxes, denoising=denoising)


def _broken(case: LossCase, field: str, value: float, number: int, entry: Entry) -> LossCase:
    """The case with this value in one layer and image of its ordinary queries, and in one of its denoising queries.

    Their losses are apart, so that one call shows both. Layers and images come in turn, for denoising queries the last
    ones first.
    """
    predictions, denoising = getattr(case, f"pred_{field}"), case.denoising
    layer, image = _places(predictions)[number]
    classes = case.gt_cls[case.of_image(image)]
    row = entry(np.arange(len(classes)), classes)
    broken = case.change(**{f"pred_{field}": _put(predictions, (layer, image, *row), value)})
    if denoising is None:
        return broken
    of_denoising = getattr(denoising, field)
    places = _places(of_denoising)
    layer, image = places[-1 - number % len(places)]
    slots = denoising.pos_idx[image]
    if not len(slots):
        return broken
    row = entry(slots, case.gt_cls[denoising.gt_idx[image]])
    return broken.change(denoising=replace(denoising, **{field: _put(of_denoising, (layer, image, *row), value)}))


def _places(predictions: np.ndarray) -> list[tuple[int, int]]:
    """Every layer and image."""
    return list(product(range(predictions.shape[0]), range(predictions.shape[1])))


def _put(array: np.ndarray, where: tuple[int, ...], value: float) -> np.ndarray:
    """The array with another entry."""
    changed = array.copy()
    changed[where] = value
    return changed
