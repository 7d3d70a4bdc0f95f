"""MATCH: the matching, certified by its cost and never compared index by index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.additions import empty_images
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.matched import assert_cheapest, assert_optimal, assert_pairs, matched_pairs
from detr_conformance.properties.transforms import images_of_one_size, select_images, with_nan_logits
from detr_conformance.reference.base_spec import NON_FINITE

ANY = Request(layers=(1, 2), targets=(0, 4), denoising="never", cheap=True)
CARION = "Carion et al., DETR, arXiv 2005.12872, equation 1"


@rule("MATCH-01", source=CARION, request=ANY, needs={"match"})
def pairs(port: PortUnderTest, case: LossCase) -> None:
    """Each image gets min(queries, its targets) pairs; no query and no target occurs twice, and every target is one
    of the image's own, counted through the whole batch."""
    assert_pairs(case, matched_pairs(port, case))


@rule("MATCH-02", source=f"{CARION}; certificate: Crouse, doi 10.1109/TAES.2016.140952", request=ANY, needs={"match"})
def optimality(port: PortUnderTest, case: LossCase) -> None:
    """No other matching is cheaper: the total cost reaches the bound that the dual potentials prove, with the gains
    that the profile gives the matcher of its loss, by the base profile 2 for class, 5 for bbox and 2 for giou."""
    assert_optimal(port, case)


@rule(
    "MATCH-03",
    source="any optimal matching is legal where costs tie",
    request=replace(ANY, queries=(2, 8)),
    needs={"match"},
)
def ties(port: PortUnderTest, case: LossCase) -> None:
    """Where queries tie because half of them repeat the others, the matching is still a legal and optimal one."""
    half = (case.queries + 1) // 2
    assert_optimal(port, case.change(**case.taken(queries=np.arange(case.queries) % half)))


@rule(
    "MATCH-04",
    source=CARION,
    request=replace(ANY, queries=(1, 3), targets=(3, 6), real=False),
    needs={"match"},
)
def fewer_queries_than_targets(port: PortUnderTest, case: LossCase) -> None:
    """With fewer queries than targets every query is matched, and the targets left out are those whose absence is
    cheapest."""
    assert_optimal(port, case)


@rule(
    "MATCH-05",
    source="Zhu et al., Deformable DETR, arXiv 2010.04159, section 5; Carion et al., DETR, section 3.1",
    request=replace(ANY, matcher_options=True),
    needs={"match"},
)
def cost_terms(port: PortUnderTest, case: LossCase) -> None:
    """A matcher built with other gains minimises those: the class term alone (focal with its alpha and gamma, or the
    softmax probability), the L1 term alone, the GIoU term alone, and their weighted sum."""
    assert_optimal(port, case)


@rule("MATCH-06", source=CARION, request=replace(ANY, images=(2, 4)), needs={"match"})
def images_do_not_mix(port: PortUnderTest, case: LossCase) -> None:
    """An image is matched by its own predictions and targets alone: a matching that rounding cannot change stays the
    same when the other images are taken away."""
    case = images_of_one_size(case)  # of masks: an image's own padding is that of its batch
    port.require_certain_matching(case)
    alone = [matched_pairs(port, select_images(case, [image])) for image in range(case.images)]
    for layer, image, queries, targets in matched_pairs(port, case):
        _, _, own_queries, own_targets = alone[image][layer]
        together = _sorted_pairs(queries, targets - case.of_image(image).start)
        apart = _sorted_pairs(own_queries, own_targets)
        assert together == apart, (
            f"layer {layer}, image {image}: matched {together} (query, target) within the batch, {apart} alone"
        )


@rule(
    "MATCH-07",
    source="Ultralytics HungarianMatcher: non-finite costs become 0. Most costs are positive, so a broken prediction "
    "is often the cheapest match, and the loss becomes NaN",
    request=replace(ANY, queries=(2, 6), targets=(1, 3), special=(), large=False),
    needs={"match"},
    convention=NON_FINITE,
)
def non_finite_costs(port: PortUnderTest, case: LossCase) -> None:
    """A cost that is not finite counts as 0.0: matching goes on, and is optimal for the costs so changed. Where a cost
    reads the logit of the target's class alone, a NaN in another one leaves it as it is."""
    for broken in with_nan_logits(case):
        assert_optimal(port, broken)
    for value in (np.nan, np.inf):
        boxes = case.pred_bboxes.copy()
        boxes[:, :, 0, 0] = value
        assert_optimal(port, case.change(pred_bboxes=boxes))


@rule(
    "MATCH-08",
    source=f"{CARION}; an image's targets start where those of the images before it end",
    request=replace(ANY, images=(3, 3), targets=(1, 3), cheap=False),
    needs={"match"},
)
def empty_images_anywhere(port: PortUnderTest, case: LossCase) -> None:
    """Wherever images without targets stand in the batch, alone or several, they get no pairs, and every other image is
    matched with its own targets."""
    costs = oracle.matching_costs(case, port.spec)
    for empty in ({0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}):
        thinned = empty_images(case, empty)
        matched = matched_pairs(port, thinned)
        assert_pairs(thinned, matched)
        assert_cheapest(port, thinned, [each for each in matched if each[1] not in empty], costs)


def _sorted_pairs(queries: np.ndarray, targets: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of one image in a common order; of two lengths only what has a partner, which MATCH-01 looks at."""
    return sorted(zip(queries.tolist(), targets.tolist(), strict=False))
