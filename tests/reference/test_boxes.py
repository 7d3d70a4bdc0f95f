"""Overlap measures, held against values worked out by hand and against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from detr_conformance.reference.boxes import IOU_EPS, Guard, bbox_iou, giou, l1_distance
from detr_conformance.reference.rounding import track

UNIT = (0.5, 0.5, 1.0, 1.0)

# Boxes in centre form, their IoU and their GIoU.
BY_HAND = {
    "identical": ((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.4, 0.4), 1, 1),
    "nested, one quarter": ((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.2, 0.2), 1 / 4, 1 / 4),
    "side by side, half shared": ((0.2, 0.1, 0.4, 0.2), (0.4, 0.1, 0.4, 0.2), 1 / 3, 1 / 3),
    "a cross": ((0.3, 0.3, 0.6, 0.2), (0.3, 0.3, 0.2, 0.6), 1 / 5, 1 / 5 - 4 / 9),
    "disjoint in a row": ((0.1, 0.1, 0.2, 0.2), (0.7, 0.1, 0.2, 0.2), 0, -1 / 2),
    "touching along an edge": ((0.1, 0.1, 0.2, 0.2), (0.3, 0.1, 0.2, 0.2), 0, 0),
    "touching in a corner": ((0.1, 0.1, 0.2, 0.2), (0.3, 0.3, 0.2, 0.2), 0, -1 / 2),
    "a point and itself": ((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), 0, 0),
    "two points, diagonally apart": ((0.1, 0.1, 0.0, 0.0), (0.9, 0.9, 0.0, 0.0), 0, -1),
    "a line in a box": ((0.5, 0.5, 0.0, 0.4), (0.5, 0.5, 0.4, 0.4), 0, 0),
    "width negative": ((0.5, 0.5, -0.2, 0.2), (0.5, 0.5, 0.2, 0.2), 0, -1),
    "width and height negative": ((0.5, 0.5, -0.2, -0.2), (0.5, 0.5, 0.2, 0.2), 0, 1),
}


def exact(a, b, *, corner_form=False, eps=Fraction(1, 10**7)) -> dict[str, float]:
    """All four measures of two boxes in exact arithmetic, but for the two arc tangents of CIoU."""
    a, b = [Fraction(each) for each in a], [Fraction(each) for each in b]
    if not corner_form:
        a, b = ([x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in (a, b))
    (wa, ha), (wb, hb) = ((box[2] - box[0], box[3] - box[1] + (eps if corner_form else 0)) for box in (a, b))
    inter = math.prod(max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), Fraction(0)) for i in (0, 1))
    wide, high = (max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1))
    union, hull = wa * ha + wb * hb - inter + eps, wide * high + eps
    iou = inter / union
    apart = sum((b[i] + b[i + 2] - a[i] - a[i + 2]) ** 2 for i in (0, 1)) / 4
    diou = iou - apart / (wide**2 + high**2 + eps)
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    ciou = float(diou) - v * v / (1 - float(iou) + v + float(eps))
    return {"IoU": float(iou), "GIoU": float(iou - (hull - union) / hull), "DIoU": float(diou), "CIoU": ciou}


def measure(name, a, b, **options) -> float:
    """One measure of two single boxes."""
    chosen = {} if name == "IoU" else {name: True}
    return bbox_iou(np.array([a], dtype=float), np.array([b], dtype=float), **chosen, **options).item()


def boxes(seed, *shape) -> np.ndarray:
    """Boxes in centre form, from tiny to large."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 1, (*shape, 2)), 10.0 ** rng.uniform(-3, 0, (*shape, 2))], axis=-1)


@pytest.mark.parametrize("pair", BY_HAND.values(), ids=BY_HAND)
def test_iou_and_giou_are_what_is_worked_out_by_hand(pair):
    a, b, iou, giou = pair
    assert measure("IoU", a, b) == pytest.approx(iou, abs=1e-5)
    assert measure("GIoU", a, b) == pytest.approx(giou, abs=1e-5)


@pytest.mark.parametrize("name", ["IoU", "GIoU", "DIoU", "CIoU"])
def test_every_measure_equals_exact_arithmetic_in_centre_form(name):
    for a, b in zip(boxes(1, 300), boxes(2, 300), strict=True):
        assert measure(name, a, b) == pytest.approx(exact(a, b)[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["IoU", "GIoU", "DIoU", "CIoU"])
@pytest.mark.parametrize("eps", [IOU_EPS, 0.25])
def test_every_measure_equals_exact_arithmetic_in_corner_form(name, eps):
    for a, b in zip(boxes(3, 100), boxes(4, 100), strict=True):
        a[2:], b[2:] = a[:2] + a[2:], b[:2] + b[2:]
        expected = exact(a, b, corner_form=True, eps=Fraction(eps))[name]
        assert measure(name, a, b, xywh=False, eps=eps) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_corner_form_makes_the_heights_and_only_the_heights_larger_by_eps():
    tall = measure("IoU", (0, 0, 1, 2), (0, 0, 1, 2), xywh=False, eps=0.5)
    assert tall == pytest.approx(2 / (1 * 2.5 + 1 * 2.5 - 2 + 0.5))
    wide = measure("IoU", (0, 0, 2, 1), (0, 0, 2, 1), xywh=False, eps=0.5)
    assert wide == pytest.approx(2 / (2 * 1.5 + 2 * 1.5 - 2 + 0.5))


def test_centre_form_leaves_the_heights_as_they_are():
    assert measure("IoU", UNIT, UNIT, eps=0.5) == pytest.approx(1 / (1 + 1 - 1 + 0.5))


def test_two_boxes_without_area_have_an_iou_of_zero_because_of_eps():
    assert measure("IoU", (0.5, 0.5, 0, 0), (0.5, 0.5, 0, 0)) == 0.0


def test_diou_subtracts_the_share_of_the_squared_diagonal():
    a, b = (0.1, 0.1, 0.2, 0.2), (0.7, 0.1, 0.2, 0.2)
    assert measure("DIoU", a, b) == pytest.approx(-(0.6**2) / (0.8**2 + 0.2**2), abs=1e-6)


def test_ciou_subtracts_alpha_v_where_shapes_differ():
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1 / 2)) ** 2
    iou = 1 / 3
    ciou = measure("CIoU", (0.5, 0.5, 0.4, 0.2), (0.5, 0.5, 0.2, 0.4))
    assert ciou == pytest.approx(iou - v * v / (1 - iou + v), abs=1e-5)


def test_ciou_of_a_box_without_height_takes_the_limit_of_the_arc_tangent():
    flat = measure("CIoU", (0.5, 0.5, 0.4, 0.0), (0.5, 0.5, 0.4, 0.4))
    v = 4 / math.pi**2 * (math.pi / 2 - math.pi / 4) ** 2
    assert flat == pytest.approx(0 - v * v / (1 + v), abs=1e-5)


def test_the_first_of_ciou_diou_and_giou_that_is_set_decides():
    a, b = (0.4, 0.5, 0.4, 0.2), (0.5, 0.6, 0.2, 0.4)
    assert measure("CIoU", a, b, DIoU=True, GIoU=True) == measure("CIoU", a, b)
    assert measure("DIoU", a, b, GIoU=True) == measure("DIoU", a, b)
    assert len({measure(name, a, b) for name in ("IoU", "GIoU", "DIoU", "CIoU")}) == 4


@pytest.mark.parametrize(
    ("first", "second", "result"), [((5,), (5,), (5, 1)), ((3, 1), (1, 4), (3, 4, 1)), ((2, 3), (3,), (2, 3, 1))]
)
def test_the_last_axis_stays_with_size_one_and_the_others_broadcast(first, second, result):
    assert bbox_iou(boxes(5, *first), boxes(6, *second)).shape == result


@pytest.mark.usefixtures("shapes_unchecked")  # NumPy makes plain numbers of arrays without axes
def test_two_single_boxes_have_one_measure():
    single = bbox_iou(np.array(UNIT), np.array(UNIT))
    assert single.shape == (1,)
    assert single[0] == pytest.approx(1.0, abs=1e-6)


def test_broadcasting_is_the_same_as_taking_every_pair():
    first, second = boxes(7, 4), boxes(8, 3)
    table = bbox_iou(first[:, None], second[None], GIoU=True)[..., 0]
    assert [[measure("GIoU", a, b) for b in second] for a in first] == table.tolist()


def test_proper_boxes_keep_to_the_ranges():
    first, second = boxes(9, 2000), boxes(10, 2000)
    iou, giou, diou, ciou = (bbox_iou(first, second, **{name: True}) for name in ("xywh", "GIoU", "DIoU", "CIoU"))
    assert iou.min() >= 0
    assert iou.max() <= 1
    assert giou.min() > -1
    assert (giou <= iou + 1e-12).all()
    assert diou.min() > -1
    assert (ciou <= diou).all()
    assert (diou <= iou).all()


@pytest.mark.parametrize("name", ["IoU", "GIoU", "DIoU", "CIoU"])
def test_the_two_boxes_may_be_exchanged(name):
    for a, b in zip(boxes(11, 50), boxes(12, 50), strict=True):
        assert measure(name, a, b) == pytest.approx(measure(name, b, a), rel=1e-12)


def test_tracking_rounding_does_not_change_a_value():
    first, second = boxes(13, 50), boxes(14, 50)
    assert (bbox_iou(track(first), track(second), CIoU=True).values == bbox_iou(first, second, CIoU=True)).all()


def test_the_l1_distance_is_taken_number_by_number():
    pred, target = np.array([[0.1, 0.5, 0.25, 0.5]]), np.array([[0.2, 0.5, 0.0, 0.75]])
    assert l1_distance(pred, target).tolist() == pytest.approx([0.6])
    assert l1_distance(pred[:, None], target[None]).shape == (1, 1)


def test_a_floor_is_for_what_is_divided_by_and_for_nothing_else():
    # Two boxes side by side that fill half of their hull, in areas far below the floor.
    apart = np.array([[[0.25, 0.25, 0.25, 0.25]], [[0.75, 0.75, 0.25, 0.25]]]) * 2.0**-10
    hull, union = (0.75 * 2.0**-10) ** 2, 2 * (0.25 * 2.0**-10) ** 2
    assert giou(*apart, Guard(1e-3, as_floor=True)) == pytest.approx(-(hull - union) / 1e-3)
    assert giou(*apart, Guard(1e-9, as_floor=True)) == pytest.approx(-(hull - union) / hull)
