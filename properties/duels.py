"""Duels: images with two queries on which a wrong matcher pairs otherwise than the right one, by far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from detr_conformance.properties import oracle, tolerance
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.wrong_matchers import ROUNDED, WRONG
from detr_conformance.reference import LossSpec, magnitude, track
from detr_conformance.reference.loss import matcher_for
from detr_conformance.reference.matcher import Matcher
from detr_conformance.reference.rounding import plain

CANDIDATES = 256
"""Queries to choose two from."""
APART = (1, 2, 8, 64)
"""In the order of their costs two queries of a duel stand so far apart: next to each other a little decides."""
CROSSED, KEPT = 2**15, 2**11
"""So many times two queries and two targets are drawn, and so many of them kept: those where little decides."""
LARGE, TINY = (2, 3, 4, 5, 6, 7), (9, 11, 12, 14, 17)
"""Sides of targets, as powers of 1/2. Areas of tiny ones are like eps; only float32 has digits for them."""
SPREADS = (1.0, 1.0, 4.0, 4.0, 12.0)
"""Of logits: from undecided to saturated."""
MARGIN = 2.0
"""By so many times their allowed errors two matchings differ, for the right matcher as for the wrong one."""
LEAST = {"float32": 2.0**-6, "float16": 0.25, "bfloat16": 0.25}
"""The L1 distances of both matchings differ by so much: which it is shows beyond all rounding."""


class Candidates(NamedTuple):
    """What duels are made of.

    Attributes:
        boxes: of queries, shape (candidates, 4).
        logits: shape (candidates, columns).
        targets: boxes, shape (targets, 4).
        classes: of targets.
        distance: of every query from every target, L1.
    """

    boxes: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    classes: np.ndarray
    distance: np.ndarray


class Choices(NamedTuple):
    """Two queries and one target or two, many times over, and the two matchings that there are.

    Attributes:
        queries: first the one that gets the first target, shape (choices, 2).
        targets: shape (choices, 1) or (choices, 2).
    """

    queries: np.ndarray
    targets: np.ndarray

    def totals(self, of_pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a number for every pair: the sums of both matchings, in order and crossed."""
        pairs = self.targets.shape[1]
        in_order, crossed = self.queries[:, :pairs], self.queries[:, ::-1][:, :pairs]
        return of_pairs[in_order, self.targets].sum(axis=1), of_pairs[crossed, self.targets].sum(axis=1)

    def taken(self, which: np.ndarray) -> Choices:
        """These of them, in this order."""
        return Choices(self.queries[which], self.targets[which])


class Duel(NamedTuple):
    """Two candidates and one target or two: the right matcher pairs them in order, the wrong one crosswise."""

    queries: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Duels:
    """A batch of duels, one for each image.

    Attributes:
        case: two queries and one target or two in every image, alike in all layers.
        names: for each image what is wrong with the matcher that would pair them otherwise.
        right: for each image the L1 distance of the pairs of the right matcher.
        wrong: for each image that of the others.
        crossed: for each of the names the images that such a matcher pairs otherwise, shape (names, images).
    """

    case: LossCase
    names: tuple[str, ...]
    right: np.ndarray
    wrong: np.ndarray
    crossed: np.ndarray


@lru_cache(maxsize=oracle.KEPT)
def duels(case: LossCase, spec: LossSpec) -> Duels | None:
    """The duels that can be found under the options of a case, its numbers of layers and classes, and its seed.

    Its own predictions and targets are not looked at.

    Returns:
        None where no duel was found.
    """
    rng = np.random.default_rng(case.generator.seed)
    drawn = _candidates(case, rng)
    matcher = matcher_for(spec, tolerance.arithmetic(case.dtype), inside_loss=True)
    wrong_costs = {
        name: _cost(case, spec, change(matcher), drawn)
        for name, change in (WRONG if case.dtype == "float32" else ROUNDED).items()
    }
    found = _found(case, drawn, _cost(case, spec, matcher, drawn, is_tracked=True), wrong_costs, rng)
    if not found:
        return None
    pairs = np.array([rng.permutation(each.queries) for each in found.values()])
    targets = [each.targets for each in found.values()]
    own = np.concatenate(targets)
    boxes, logits = (np.tile(each[pairs], (case.layers, 1, 1, 1)) for each in (drawn.boxes, drawn.logits))
    made = case.change(
        pred_bboxes=boxes,
        pred_scores=logits,
        gt_bboxes=drawn.targets[own],
        gt_cls=drawn.classes[own],
        gt_groups=tuple(map(len, targets)),
    )
    right, wrong = _of_both(found, drawn.distance)
    totals = [_of_both(found, wrong_costs[name]) for name in found]
    crossed = np.array([there < here for here, there in totals])
    return Duels(made, tuple(found), right, wrong, crossed)


def _of_both(found: Mapping[str, Duel], of_pairs: np.ndarray) -> np.ndarray:
    """Of a number for every pair: its sums over both matchings of each duel, shape (2, duels)."""
    images = np.repeat(np.arange(len(found)), [len(each.targets) for each in found.values()])
    targets = np.concatenate([each.targets for each in found.values()])
    in_order = np.concatenate([each.queries[: len(each.targets)] for each in found.values()])
    crossed = np.concatenate([each.queries[::-1][: len(each.targets)] for each in found.values()])
    return np.array([np.bincount(images, of_pairs[queries, targets]) for queries in (in_order, crossed)])


def _candidates(case: LossCase, rng: np.random.Generator) -> Candidates:
    """Queries near each of the targets and far from all, sure and unsure of their class."""
    halvings = LARGE + TINY if case.dtype == "float32" else LARGE
    shapes = 2.0 ** -np.array(halvings)[:, None] * rng.uniform(0.5, 1.0, (len(halvings), 2))
    places = rng.uniform(0.2, 0.8, shapes.shape)
    # Tiny ones near the origin, where a number has digits to spare for their edges.
    places[len(LARGE) :] = shapes[len(LARGE) :] * rng.uniform(0.75, 1.5, (len(halvings) - len(LARGE), 2))
    targets = rounded(np.concatenate([places, shapes], axis=-1), case.target_dtype)
    near = targets[np.arange(CANDIDATES) % len(targets)]
    size = near[:, 2:] * rng.uniform(0.5, 1.5, (CANDIDATES, 2))
    centre = near[:, :2] + near[:, 2:] * rng.uniform(-1.25, 1.25, (CANDIDATES, 2))
    far = np.concatenate([rng.uniform(0.0, 1.0, (CANDIDATES, 2)), rng.uniform(0.05, 1.0, (CANDIDATES, 2))], axis=-1)
    far *= 2.0 ** -rng.uniform(0.0, 4.0, (CANDIDATES, 1))
    is_near = rng.integers(0, 2, (CANDIDATES, 1)) == 0
    inside = np.clip(np.abs(centre), 0.0, 1.0)  # of the image: a port may get boxes from a sigmoid
    boxes = rounded(np.where(is_near, np.concatenate([inside, size], axis=-1), far), case.dtype)
    spread = np.resize(SPREADS, CANDIDATES)[:, None]
    logits = rounded(rng.normal(0.0, spread, (CANDIDATES, case.columns)), case.dtype)
    distance = np.abs(boxes[:, None] - targets).sum(axis=-1)
    return Candidates(boxes, logits, targets, rng.integers(0, case.config.nc, len(targets)), distance)


def _found(
    case: LossCase,
    drawn: Candidates,
    cost: np.ndarray,
    wrong_costs: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, Duel]:
    """For each wrong matcher the duel that it decides most clearly; with two targets where one does not do.

    What keeps the order of costs, as rounding does, never decides between two queries for one target.
    """
    every = _of_one_target(plain(cost)), _of_two(plain(cost), rng)
    certain = [_certain(case, drawn, cost, choices) for choices in every]
    found = {}
    for name, wrong in wrong_costs.items():
        for choices, reach in certain:
            in_order, crossed = choices.totals(wrong)
            clear = in_order - crossed - reach
            if len(clear) and clear.max() > 0.0:
                best = int(clear.argmax())
                found[name] = Duel(choices.queries[best], choices.targets[best])
                break
    return found


def _of_one_target(cost: np.ndarray) -> Choices:
    """Two queries for each target, from neighbours in the order of costs to such as have little in common."""
    order = cost.argsort(axis=0, kind="stable")
    cheaper, dearer = (np.concatenate(each) for each in zip(*((order[:-by], order[by:]) for by in APART), strict=True))
    targets = np.broadcast_to(np.arange(cost.shape[1]), cheaper.shape)
    return Choices(np.stack([cheaper.ravel(), dearer.ravel()], axis=1), targets.reshape(-1, 1))


def _of_two(cost: np.ndarray, rng: np.random.Generator) -> Choices:
    """Two queries and two targets, the cheaper matching in order, where the other costs little more."""
    queries, targets = (rng.integers(0, size, (CROSSED, 2)) for size in cost.shape)
    drawn = Choices(queries, targets)
    in_order, crossed = drawn.totals(cost)
    queries[in_order > crossed] = queries[in_order > crossed, ::-1]
    differ = (queries[:, 0] != queries[:, 1]) & (targets[:, 0] != targets[:, 1])
    gap = np.where(differ, np.abs(crossed - in_order), np.inf)
    return drawn.taken(np.argpartition(gap, KEPT)[:KEPT])


def _certain(case: LossCase, drawn: Candidates, cost: np.ndarray, choices: Choices) -> tuple[Choices, np.ndarray]:
    """The choices that rounding cannot change, and that show; and by how much costs have to differ for it."""
    in_order, crossed = choices.totals(plain(cost))
    largest = np.max(choices.totals(np.abs(plain(cost))), axis=0)
    precise = tolerance.PRECISIONS[oracle.cost_dtype(case.dtype)]
    errors = np.sum(choices.totals(magnitude(cost)), axis=0) + 2.0 * choices.targets.shape[1] * largest
    reach = MARGIN * tolerance.UNITS * precise.eps * errors
    here, there = choices.totals(drawn.distance)
    left = np.flatnonzero((crossed - in_order > reach) & (np.abs(there - here) >= LEAST[case.dtype]))
    return choices.taken(left), reach[left]


def _cost(case: LossCase, spec: LossSpec, matcher: Matcher, drawn: Candidates, is_tracked: bool = False) -> np.ndarray:
    """Of every query and target; with its bound if it is to be tracked."""
    rows = [drawn.boxes, drawn.logits, drawn.targets]
    if is_tracked:
        arithmetic = tolerance.arithmetic(oracle.cost_dtype(case.dtype))
        rows = [track(each, arithmetic) for each in rows]
    boxes, logits, targets = rows
    config = matcher.configured(spec.options(case.config))
    return matcher.cost(config, boxes, logits, spec.target_boxes(targets), drawn.classes)
