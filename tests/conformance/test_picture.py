from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detr_conformance.picture import MOST_QUERIES, MOST_TARGETS, picture
from detr_conformance.picture_masks import MOST_DOTS
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase, LossConfig
from detr_conformance.properties.case_masks import Masks
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


def masked(case, logits, objects, sizes=None, points=None):
    """The case with the same predicted mask for all queries of the main layer, and the same for all targets."""
    pred_masks = np.zeros((*case.pred_bboxes.shape[:3], *np.shape(logits)))
    pred_masks[-1] = np.float32(logits)
    gt_masks = np.tile(np.array(objects, dtype=np.float64), (case.targets, 1, 1))
    places = [None if points is None else np.tile(points, (count, 1, 1)) for count in (case.targets, case.images)]
    return case.change(masks=Masks(pred_masks, gt_masks, sizes or (gt_masks.shape[1:],) * case.images, *places))


def outlines(root, kind):
    return [each.get("d") for each in of_class(root, f"{kind}-mask")]


def test_the_masks_of_a_target_and_of_its_query_stand_side_by_side(small_case):
    root = drawn(masked(small_case, [[0.0, 90.0, -90.0]], [[1, 1, 0], [0, 0, 1]]))
    assert outlines(root, "target") == ["M0 0H2V1H0zM2 1H3V2H2z"]
    assert outlines(root, "query") == ["M0 0H1V1H0z", "M1 0H2V1H1z"]
    assert [each.get("fill-opacity") for each in of_class(root, "query-mask")] == ["0.5", "1"]
    assert words(root)[-2:] == ["t0", "q0"]


def test_a_prediction_of_another_size_fills_a_tile_of_the_same_size(small_case):
    root = drawn(masked(small_case, [[90.0]], np.ones((2, 4))))
    assert of_class(root, "target-mask")[0].get("transform").endswith(" scale(20.5 20.5)")
    assert of_class(root, "query-mask")[0].get("transform").endswith(" scale(82 41)")


def test_a_case_without_masks_has_no_tiles(small_case):
    assert "masks of the cheapest pairs" in words(drawn(masked(small_case, [[1.0]], [[1]])))
    assert "masks of the cheapest pairs" not in words(drawn(small_case))


def test_an_image_without_targets_has_no_tiles(small_case):
    empty = small_case.change(gt_cls=np.zeros(0, dtype=np.int64), gt_bboxes=np.zeros((0, 4)), gt_groups=(0,))
    case = masked(small_case, [[1.0]], [[1]]).masks.taken(targets=[])
    assert "masks of the cheapest pairs" not in words(drawn(empty.change(masks=case)))


def test_points_are_drawn_on_both_tiles_also_at_the_border(small_case):
    root = drawn(masked(small_case, [[1.0]], np.ones((2, 4)), points=[[0.0, 1.0], [0.5, 0.25]]))
    frames, dots = of_class(root, "frame")[1:], of_class(root, "point")
    left, top, width, height = (float(frames[1].get(name)) for name in ("x", "y", "width", "height"))
    places = [(float(each.get("cx")), float(each.get("cy"))) for each in dots]
    assert places[2:] == [(left, top + height), (left + width / 2, pytest.approx(top + height / 4, abs=0.1))]
    assert "dots: points of the losses" in words(root)


def test_no_more_points_are_drawn_than_can_be_told_apart(small_case):
    root = drawn(masked(small_case, [[1.0]], [[1]], points=np.full((MOST_DOTS + 1, 2), 0.5)))
    assert len(of_class(root, "point")) == 2 * MOST_DOTS
    assert "dots: the first 64 of 65 points of the losses" in words(root)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_every_logit_of_a_mask_is_survived_and_those_that_are_not_finite_are_marked(small_case, value):
    root = drawn(masked(small_case, [[0.0, value]], [[1, 0]]))
    assert outlines(root, "broken") == ([] if np.isfinite(value) else ["M1 0H2V1H1z"])
    assert ("q0: not finite, in red" in words(root)) != np.isfinite(value)
    assert outlines(root, "query")[0] == "M0 0H1V1H0z"


def test_large_masks_are_thinned_and_it_is_said(small_case):
    root = drawn(masked(small_case, np.full((25, 3), 90.0), np.ones((1, 49))))
    notes = ["masks of targets: one pixel of 3 x 3 is shown", "masks of queries: one pixel of 2 x 2 is shown"]
    assert [each for each in words(root) if each.endswith("is shown")] == notes
    assert outlines(root, "target") == ["M0 0H49V1H0z"]
    assert outlines(root, "query")[0].count("M") == 13


def test_a_logit_that_is_not_finite_is_marked_also_where_masks_are_thinned(small_case):
    logits = np.zeros((25, 3))
    logits[3, 1] = np.nan
    assert outlines(drawn(masked(small_case, logits, [[1]])), "broken") == ["M0 2H2V4H0z"]


def test_masks_that_are_not_large_are_shown_pixel_by_pixel(small_case):
    root = drawn(masked(small_case, np.full((24, 24), 90.0), np.ones((24, 24))))
    assert outlines(root, "query")[0].count("M") == 24
    assert not [each for each in words(root) if "is shown" in each]


def test_an_image_smaller_than_the_batch_ends_at_a_dashed_frame(small_case):
    two = {name: np.tile(getattr(small_case, name), (1, 2, 1, 1)) for name in ("pred_bboxes", "pred_scores")}
    case = masked(small_case.change(**two, gt_groups=(1, 0)), [[1.0]], [[1, 0], [0, 0]], ((2, 1), (2, 2)))
    root = drawn(case)
    ends = [(each.get("width"), each.get("height")) for each in of_class(root, "end-of-image")]
    assert ends == [("41.0", "82.0")] * 2
    assert "dashed: the image, 2 x 1 of the batch's 2 x 2 pixels" in words(root)
    assert not of_class(drawn(case.change(masks=case.masks.of_one_size())), "end-of-image")


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (30, 2)])
def test_tiles_of_many_targets_stay_within_the_picture(size):
    root = drawn(masked(crowd(12, 9), np.ones(size), np.ones(size)))
    tiles = [[float(each.get(name)) for name in ("x", "y", "width", "height")] for each in of_class(root, "frame")[1:]]
    _, _, width, height = map(float, root.get("viewBox").split())
    assert len(tiles) == 2 * MOST_TARGETS
    assert len({tuple(tile[:2]) for tile in tiles}) == len(tiles)
    assert all(x + across <= width and y + down <= height for x, y, across, down in tiles)
