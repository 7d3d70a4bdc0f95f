"""MATCH: how exactly the costs are those that they should be, seen where little decides who is matched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.additions import repeat_queries
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import Check, rule
from detr_conformance.properties.rules.matched import assert_optimal
from detr_conformance.properties.staged import BOXES
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.transforms import map_boxes
from detr_conformance.reference import track
from detr_conformance.reference.rounding import plain

DUEL = Request(
    layers=(1, 1),
    images=(1, 1),
    queries=(2, 2),
    classes=(1, 4),
    targets=(1, 1),
    denoising="never",
    special=(),
    matcher_options=True,
    real=False,
)
TARGET = np.array([0.5, 0.5, 0.25, 0.25])
MOVED = np.array([0.625, 0.5, 0.25, 0.25])
SMALLER = np.array([0.5, 0.5, 0.125, 0.125])
MARGIN = 4.0
"""By so many times their allowed errors the two costs differ: as little as can be judged."""
TINY = 2.0**-10
"""Boxes so much smaller have areas like eps = 1e-7."""
ASIDE = 2.0**-7
"""How far from the middle between two queries each of them lies."""
BELOW_HALF = 2.0**-14
"""Less than half the distance of float16 numbers at 1/4 and above."""
HALF = Request(layers=(1, 2), targets=(0, 4), denoising="never", dtype="float16", special=(), cheap=True)
FLOAT32_COSTS = "Ultralytics HungarianMatcher since 8.4.172: costs in float32 whatever the predictions are"
LIKE_HALF_PRECISION = 1.0 + 2.0**-11
"""Numbers that differ by this factor are different in float32, and equal or neighbours in half precision."""


@rule(
    "MATCH-09",
    source="Zhu et al., Deformable DETR, arXiv 2010.04159, section 5: focal class cost; Carion et al., DETR, "
    "section 3.1: softmax probability",
    request=DUEL,
    needs={"match"},
)
def class_cost_against_l1_cost(port: PortUnderTest, case: LossCase) -> None:
    """The class cost of a query is worth exactly so much L1 distance as its formula and the gains say: of two queries,
    one with the better class and one with the better box, the cheaper is matched, however little the two costs
    differ."""
    assert_exchange(port, case, "bbox", MOVED)


@rule(
    "MATCH-18",
    source="Zhu et al., Deformable DETR, arXiv 2010.04159, section 5: -log(p + 1e-8), which stops at 18",
    request=replace(DUEL, logit_scale=30.0),
    needs={"match"},
)
def class_cost_of_saturated_logits(port: PortUnderTest, case: LossCase) -> None:
    """The class cost of a query that is all but sure, and wrong, is worth as much L1 distance as its formula says: its
    logarithms stop where the profile's eps stops them."""
    assert_exchange(port, case, "bbox", MOVED)


@rule("MATCH-10", source="Carion et al., DETR, arXiv 2005.12872, section 3.1", request=DUEL, needs={"match"})
def class_cost_against_giou_cost(port: PortUnderTest, case: LossCase) -> None:
    """The class cost of a query is worth exactly so much GIoU as its formula and the gains say: of two queries, one
    with the better class and one with the better box, the cheaper is matched, however little the two costs differ."""
    assert_exchange(port, case, "giou", SMALLER)


@rule(
    "MATCH-11",
    source="costs are real numbers; DETR's matcher computes them in float32",
    request=Request(layers=(1, 2), queries=(2, 8), targets=(0, 4), denoising="never", cheap=True),
    needs={"match"},
)
def near_ties(port: PortUnderTest, case: LossCase) -> None:
    """Where queries are all but equal, differing by what half precision cannot hold, the cheapest ones are matched;
    only where float32 itself cannot tell is either of them right."""
    half = case.queries // 2
    case = case.change(**case.taken(queries=[*range(case.queries - half), *range(half)]))
    changes = {}
    for name in ("pred_bboxes", "pred_scores"):
        array = getattr(case, name).copy()
        array[:, :, -half:] = rounded(array[:, :, :half] * LIKE_HALF_PRECISION, case.dtype)
        changes[name] = array
    assert_optimal(port, case.change(**changes))


@rule(
    "MATCH-12",
    source="any optimal matching is legal where costs tie",
    # Several targets of an image would compete for the copies of a query, and tie in ways that change the loss.
    # Where layers vote, each may take another copy.
    among=lambda spec: spec.layers.independent,
    request=Request(layers=(1, 2), queries=(1, 4), targets=(0, 1), denoising="never", real=False),
)
def copies_of_queries(port: PortUnderTest, case: LossCase) -> None:
    """Where every query occurs twice, an image's only target is matched with one copy of the cheapest query, and
    whichever it is the losses are the same; the other copy is background."""
    port.require_certain_matching(case)
    twice = repeat_queries(case)
    port.loss(twice).assert_values(oracle.expected_losses(twice, port.spec))


@rule("MATCH-14", source=FLOAT32_COSTS, request=replace(HALF, logit_scale=30.0), needs={"match"})
def half_precision_costs(port: PortUnderTest, case: LossCase) -> None:
    """Float16 predictions are matched by costs in float32 or better, also where a float16 sigmoid is 0 or 1 and the
    logarithm of it would not be finite."""
    assert_optimal(port, case)


@rule("MATCH-15", source=FLOAT32_COSTS, request=replace(HALF, targets=(1, 4), cheap=False, real=False), needs={"match"})
def half_precision_box_costs(port: PortUnderTest, case: LossCase) -> None:
    """Float16 predictions are matched by L1 and GIoU costs in float32 or better, with targets that are not rounded: of
    two queries alike on either side of a target the nearer is matched, by however little it is."""
    for side in (-1.0, 1.0):
        assert_optimal(port, _between_two_queries(case, side))


@rule(
    "MATCH-16",
    source="Ultralytics bbox_iou: eps = 1e-7 is added to the union and to the hull, in the matcher's cost as well",
    # Where classes and distances differ little, GIoU decides.
    request=Request(layers=(1, 2), targets=(0, 4), denoising="never", logit_scale=1.0, cheap=True),
    needs={"match"},
)
def costs_of_tiny_boxes(port: PortUnderTest, case: LossCase) -> None:
    """Boxes whose areas are not much larger than the profile's eps are matched by the same costs, with that eps in the
    union and in the hull of GIoU."""
    assert_optimal(port, map_boxes(case, lambda boxes: boxes * TINY))


def _between_two_queries(case: LossCase, side: float) -> LossCase:
    """Every target between two queries of its own that are alike, off the middle by less than float16 can hold."""
    most, to_the_right = max(case.gt_groups), np.array([1.0, 0.0, 0.0, 0.0])
    pairs = np.repeat(BOXES[:most], 2, axis=0) + np.tile([[-ASIDE], [ASIDE]], (most, 1)) * to_the_right
    targets = np.concatenate([BOXES[:count] for count in case.gt_groups])
    alike = case.taken(queries=[0] * 2 * most)
    return case.change(
        **{**alike, "pred_bboxes": np.tile(pairs, (case.layers, case.images, 1, 1))},
        gt_bboxes=targets + side * BELOW_HALF * to_the_right,
    )


def assert_exchange(
    port: PortUnderTest, case: LossCase, term: str, box: np.ndarray, check: Check = assert_optimal
) -> None:
    """Two queries whose costs are all but equal by the choice of the gain, first on one side and then on the other.

    The query with the better class gets the worse box, and the gain of the other term is the rate at which its
    advantage is used up, a little more or a little less.
    """
    __tracebackhide__ = True
    for kind in port.spec.matcher.class_costs:
        duel = case.change(
            gt_bboxes=TARGET[None], matcher=replace(case.matcher, use_fl=kind == "focal", cost_gain=_gains(term, 0.0))
        )
        better = int(plain(_terms(port, duel, "cls")).argmin())
        boxes = np.tile(TARGET, (case.layers, 1, 2, 1))
        boxes[:, :, better] = box
        # All layers duel with the same logits.
        duel = duel.change(pred_bboxes=boxes, pred_scores=np.tile(case.pred_scores[:1], (case.layers, 1, 1, 1)))
        rate, blur = _exchange_rate(port, duel, term, better)
        for side in (1.0 - blur, 1.0 + blur):
            matcher = replace(duel.matcher, cost_gain=_gains(term, rate * side))
            check(port, duel.change(matcher=matcher))


def _exchange_rate(port: PortUnderTest, duel: LossCase, term: str, better: int) -> tuple[float, float]:
    """The gain at which both queries cost the same, and by what share of it the costs can be told apart.

    Raises:
        OutOfScope: the classes are worth the same, or so little apart that nothing can be told.
    """
    classes, other = _terms(port, duel, "cls"), _terms(port, duel, term)
    advantage = float(classes[1 - better, 0] - classes[better, 0])
    rate = advantage / float(other[better, 0] - other[1 - better, 0])
    reach = float(oracle.allowed_cost_error(classes + rate * other, duel.dtype).sum())
    if advantage <= 0.0 or MARGIN * reach > 0.25 * advantage:
        raise OutOfScope("the classes of the two queries are worth the same")
    return rate, MARGIN * reach / advantage


def _terms(port: PortUnderTest, duel: LossCase, term: str) -> np.ndarray:
    """One term of the cost of both queries, before gains."""
    boxes, logits, gt_boxes = map(track, (duel.pred_bboxes[0, 0], duel.pred_scores[0, 0], duel.gt_bboxes))
    return getattr(port.spec.matcher.cost_terms(duel.matcher, boxes, logits, gt_boxes, duel.gt_cls), term)


def _gains(term: str, gain: float) -> dict[str, float]:
    return {"class": 1.0, "bbox": 0.0, "giou": 0.0} | {term: gain}
