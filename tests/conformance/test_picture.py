from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detr_conformance.picture import MOST_QUERIES, MOST_TARGETS, picture
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase, LossConfig
from detr_conformance.reference import ULTRALYTICS

SVG = "{http://www.w3.org/2000/svg}"


def drawn(case, port=None):
    return ET.fromstring(picture(case, ULTRALYTICS, port))  # noqa: S314  # our own


def of_class(root, kind):
    return [each for each in root if each.get("class") == kind]


def words(root):
    return [each.text for each in root.iter(f"{SVG}text")]


def crowd(queries, targets, seed=0):
    random = np.random.default_rng(seed)
    boxes = np.float64(np.float32(random.uniform(0.2, 0.5, (2, 1, queries, 4))))
    return LossCase(
        config=LossConfig(nc=2),
        pred_bboxes=boxes,
        pred_scores=np.float64(np.float32(random.normal(size=(2, 1, queries, 2)))),
        gt_cls=random.integers(0, 2, targets),
        gt_bboxes=np.float64(np.float32(random.uniform(0.2, 0.5, (targets, 4)))),
        gt_groups=(targets,),
    )


def test_boxes_names_pairs_and_costs_are_there(small_case):
    root = drawn(small_case)
    assert {"q0", "q1", "t0"} <= set(words(root))
    assert len([each for each in of_class(root, "query") if each.tag == f"{SVG}rect"]) == 2
    assert len([each for each in of_class(root, "target") if each.tag == f"{SVG}rect"]) == 1
    assert len(of_class(root, "cell")) == 2
    assert [each.tag for each in of_class(root, "pair")] == [f"{SVG}line", f"{SVG}line", f"{SVG}rect"]


def test_it_scales_and_follows_the_colours_of_the_screen(small_case):
    root = drawn(small_case)
    assert root.get("viewBox").startswith("0 0 400 ")
    assert root.get("width") is None
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text


class Other(ReferencePort):
    """Matches the dearest."""

    def match(self, case):
        return [[(np.array([1]), np.array([0]))] for _ in range(case.layers)]


def test_another_matching_of_the_port_is_shown_beside_the_cheapest(small_case):
    assert not of_class(drawn(small_case, ReferencePort()), "port")
    assert [each.tag for each in of_class(drawn(small_case, Other()), "port")] == 2 * [f"{SVG}line"] + [f"{SVG}rect"]


class Raising(ReferencePort):
    def match(self, _case):
        raise RuntimeError("<no & matching>\x1b[31m")


def test_a_port_that_has_no_matching_to_show_is_told(small_case):
    [note] = [each for each in words(drawn(small_case, Raising())) if "no & matching" in each]
    assert "\x1b" not in note


def test_a_large_case_shows_what_matters():
    root = drawn(crowd(40, 12))
    assert len(of_class(root, "cell")) == MOST_QUERIES * MOST_TARGETS
    assert "not shown: 30 queries, 5 targets" in words(root)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30, 1e30, 0.0])
def test_boxes_without_a_place_are_told(small_case, value):
    boxes = np.float64(np.float32(small_case.pred_bboxes.copy()))
    boxes[..., 0, :] = np.float32(value)
    root = drawn(small_case.change(pred_bboxes=boxes))
    for each in root.iter():
        for name in {"x", "y", "width", "height", "x1", "y1", "x2", "y2"} & set(each.keys()):
            assert -1.0 <= float(each.get(name)) <= 600.0, ET.tostring(each)
    assert value == 0.0 or any(text.startswith("q0: ") for text in words(root))


@pytest.mark.parametrize("gt_groups", [(0,), (0, 0, 0)])
def test_a_case_without_targets_has_a_picture(gt_groups):
    case = crowd(3, 1)
    images = len(gt_groups)
    empty = case.change(
        pred_bboxes=np.tile(case.pred_bboxes, (1, images, 1, 1)),
        pred_scores=np.tile(case.pred_scores, (1, images, 1, 1)),
        gt_cls=np.zeros(0, dtype=np.int64),
        gt_bboxes=np.zeros((0, 4)),
        gt_groups=gt_groups,
    )
    assert "no targets: nothing is matched" in words(drawn(empty))


def test_more_targets_than_queries_and_one_image_of_several():
    case = crowd(2, 6)
    assert len(of_class(drawn(case), "cell")) == 12
