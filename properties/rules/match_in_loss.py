"""MATCH: the matching inside the loss, seen in the losses alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import counts_layers, measures_giou
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.tolerance import rounded

PLACES = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
"""Centres of targets so far apart that nobody else's queries compete for them."""
SIZE = np.array([0.25, 0.25])
PARKED = np.array([0.5, 0.5, 0.25, 0.25])
SHIFTS = np.linspace(0.0, 0.1875, 1025)
"""How far to the right of its target a query may lie; between two of them costs are linear, up to what nobody sees."""
LEAST = 2.0**-7
"""A query that is matched this far from its target shows in loss_bbox beyond all rounding."""
MARGIN = 4.0
"""By so many times their allowed errors the costs of two queries differ: as little as can be judged."""


@dataclass(frozen=True)
class Rivals:
    """Two queries for every target: one lies on it, and the other has the better class.

    Attributes:
        case: gives the sizes, the options and the logits of both.
        better: which row of logits has the better class.
        label: the class of all targets.
    """

    case: LossCase
    better: int
    label: int

    def apart(self, distances: tuple[float, float]) -> LossCase:
        """The case in which the query with the better class lies so far to the right of its target, layer by layer.

        The first distance is that of all layers but the last.

        Query 2 j lies on target j, query 2 j + 1 is its rival. Queries without a target are parked.
        """
        case, counts = self.case, self.case.gt_groups
        of_layers = [distances[0]] * (case.layers - 1) + [distances[1]]
        boxes = np.tile(PARKED, (case.layers, case.images, 2 * max(counts), 1))
        logits = np.tile(case.pred_scores[0, 0, [1 - self.better]], (*boxes.shape[:3], 1))
        for image, count in enumerate(counts):
            boxes[:, image, : 2 * count] = np.repeat(_targets(count), 2, axis=0)
            boxes[:, image, 1 : 2 * count : 2, 0] += np.array(of_layers)[:, None]
            logits[:, image, 1 : 2 * count : 2] = case.pred_scores[0, 0, self.better]
        alike = case.taken(queries=[0] * 2 * max(counts))
        return case.change(
            **{**alike, "pred_bboxes": rounded(boxes, case.dtype), "pred_scores": logits},
            gt_bboxes=np.concatenate([_targets(count) for count in counts]),
            gt_cls=np.full(case.targets, self.label),
        )


DUELS = Request(
    layers=(2, 2),
    images=(1, 2),
    queries=(2, 2),
    targets=(1, 3),
    denoising="never",
    special=(),
    logit_scale=1.0,
    real=False,
    about_class=True,
)


@rule(
    "MATCH-17",
    source="Ultralytics DETRLoss: its matcher has the gains class 2, bbox 5 and giou 2 and the focal class cost with "
    "alpha 0.25 and gamma 2; no option of the loss reaches it",
    request=DUELS,
    among=lambda spec: spec.layers.independent and measures_giou(spec),
)
def matching_inside_the_loss(port: PortUnderTest, case: LossCase) -> None:
    """Whatever classification loss is chosen, with whatever alpha, gamma and gains, queries are matched inside the loss
    by the cost that the profile gives it, by the base profile one and the same: of two queries, one with the better
    class and one with the better box, the cheaper is matched, however little the two costs differ."""
    for same in port.each_classification(case):
        _assert_cheaper_matched(port, same)


@rule(
    "MATCH-21",
    source="Peng et al., D-FINE, arXiv 2410.13842, appendix (matching union across layers)",
    request=DUELS,
    among=lambda spec: not spec.layers.independent and measures_giou(spec),
)
def matching_inside_the_loss_of_layers_that_vote(port: PortUnderTest, case: LossCase) -> None:
    """Where layers vote on the pairs and all predict the same, queries are matched inside the loss by the cost that the
    profile gives it: of two queries, one with the better class and one with the better box, the cheaper is matched,
    however little the two costs differ."""
    for same in port.each_classification(case):
        rivals, shift, step = _duel(port, same)
        for distance, better in ((shift - step, "class"), (shift + step, "box")):
            duels = rivals.apart((distance, distance))
            port.require_certain_matching(duels)
            _assert_matched(port, duels, distance, {"loss_bbox_aux": better, "loss_bbox": better})


def _assert_cheaper_matched(port: PortUnderTest, case: LossCase) -> None:
    """The duel under one classification loss, decided by a little for the one and then for the other."""
    __tracebackhide__ = True
    rivals, shift, step = _duel(port, case)
    duels = rivals.apart((shift - step, shift + step))
    port.require_certain_matching(duels)
    _assert_matched(port, duels, shift - step, {"loss_bbox_aux": "class", "loss_bbox": "box"})


def _duel(port: PortUnderTest, case: LossCase) -> tuple[Rivals, float, float]:
    """The rivals, the distance at which they cost the same, and a step from it that can be judged.

    Raises:
        OutOfScope: too near to the target for a wrong pair to show.
    """
    rivals = _rivals(port, case)
    shift = _shift_of_equal_costs(port, rivals)
    gain = port.spec.matcher.configured(port.config(case)).cost_gain["bbox"]
    step = MARGIN * _reach(port, rivals.apart((shift, shift))) / gain
    if shift - step < LEAST:
        raise OutOfScope("the classes of the two queries are worth the same")
    return rivals, shift, step


def _assert_matched(port: PortUnderTest, case: LossCase, distance: float, better: dict[str, str]) -> None:
    """In the layers of each key the queries with the better class, so far from their targets, or those with the better
    box, which lie on them.

    Which of both are matched is read from the L1 loss: a single wrong pair moves it by twice the slack.
    """
    __tracebackhide__ = True
    returned, gain = port.loss(case), weight(port, case, "bbox") * case.targets
    slack = gain * distance / (2 * case.targets)
    layers = {"loss_bbox_aux": counts_layers(port.spec, case.layers - 1), "loss_bbox": 1.0}
    for key, which in better.items():
        came, wanted = float(returned.value(key)), layers[key] * gain * distance if which == "class" else 0.0
        assert abs(came - wanted) <= slack, (
            f"{case.config.classification} loss: {key} is {came:.6g}, expected {wanted:.6g}: of two queries of each "
            f"target the one with the better {which} must be matched, the other costs more"
        )


def _targets(count: int) -> np.ndarray:
    return np.concatenate([PLACES[:count], np.tile(SIZE, (count, 1))], axis=1)


def _rivals(port: PortUnderTest, case: LossCase) -> Rivals:
    label = int(case.gt_cls[0])
    costs = _class_and_box_costs(port, case, case.pred_scores[0, 0], np.zeros(2), label)
    return Rivals(case, int(costs.argmin()), label)


def _class_and_box_costs(
    port: PortUnderTest, case: LossCase, logits: np.ndarray, shifts: np.ndarray, label: int
) -> np.ndarray:
    """Costs inside the loss of queries that lie so far to the right of a target."""
    [target] = _targets(1)
    boxes = target + shifts[:, None] * np.array([1.0, 0.0, 0.0, 0.0])
    matcher, config = port.spec.matcher, port.spec.matcher.configured(port.config(case))
    return np.asarray(matcher.cost(config, boxes, logits, target[None], np.array([label])))[:, 0]


def _shift_of_equal_costs(port: PortUnderTest, rivals: Rivals) -> float:
    """How far the query with the better class may lie away before it costs as much as the one on the target.

    Raises:
        OutOfScope: further than this case has room for.
    """
    case, scores = rivals.case, rivals.case.pred_scores[0, 0]
    on_target = _class_and_box_costs(port, case, scores[[1 - rivals.better]], np.zeros(1), rivals.label)
    logits = np.tile(scores[rivals.better], (len(SHIFTS), 1))
    shifted = _class_and_box_costs(port, case, logits, SHIFTS, rivals.label)
    if on_target[0] >= shifted[-1]:
        raise OutOfScope("the classes of the two queries differ by more than boxes can make up for")
    return float(np.interp(on_target[0], shifted, SHIFTS))


def _reach(port: PortUnderTest, case: LossCase) -> float:
    """By how much two costs of the case may be off together."""
    costs = (cost for layer in oracle.matching_costs(case, port.spec, inside_loss=True) for cost in layer)
    return 2.0 * max(float(oracle.allowed_cost_error(cost, case.dtype).max()) for cost in costs)
