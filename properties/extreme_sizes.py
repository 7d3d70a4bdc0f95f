"""Cases at the ends of sizes: one of everything, and as many as people train with.

Code goes wrong where an axis has one entry or none, and beyond a byte, a batch of 16 or the first 256 queries. Most
large cases are long along one axis alone, which costs nothing. The rest are as large along several as a training step
is. Rules that ask alike get the same cases, so that the reference answers once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.cases_on_targets import case_on_targets, sizes_for
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.working import domain_for
from detr_conformance.reference import LossSpec


@dataclass(frozen=True)
class Extreme:
    """The sizes of one case.

    Attributes:
        layers: number of layers; queries and classes likewise.
        gt_groups: number of targets of each image.
        groups: number of denoising groups; 0 for no denoising queries.
        near: the last queries lie near to targets, and are sure of their classes.
        crowd: targets of one size lie in one place, so that they want the same queries.
    """

    layers: int
    queries: int
    classes: int
    gt_groups: tuple[int, ...]
    groups: int = 0
    near: bool = True
    crowd: bool = False


SMALL = (
    Extreme(layers=1, queries=1, classes=2, gt_groups=(1,), groups=1),
    Extreme(layers=1, queries=1, classes=1, gt_groups=(0,)),
    Extreme(layers=2, queries=1, classes=1, gt_groups=(3, 0), groups=1),
    Extreme(layers=2, queries=3, classes=1, gt_groups=(0, 1), groups=1),
)
"""One of something, and nothing."""
LONG = (
    Extreme(layers=9, queries=2, classes=2, gt_groups=(1, 2), groups=1),
    Extreme(layers=2, queries=3, classes=2, gt_groups=(0, 1, 2, *[0, 3, 1] * 10), groups=1),
    Extreme(layers=2, queries=301, classes=2, gt_groups=(3, 0), groups=1),
    Extreme(layers=2, queries=3, classes=1203, gt_groups=(2, 1), groups=2),
    Extreme(layers=2, queries=8, classes=3, gt_groups=(1, 301), groups=1),
    Extreme(layers=2, queries=4, classes=3, gt_groups=(2, 0, 3), groups=65),
)
"""Long along one axis each, just past a number at which code goes wrong."""
EQUAL = Extreme(layers=3, queries=4, classes=12, gt_groups=(3, 5, 4), groups=3, near=False)
"""As many layers as images and groups, and as many classes and targets as queries in all: code that guesses which is
which guesses wrong."""
MANY = Extreme(layers=1, queries=330, classes=2, gt_groups=(2, 0, 1, *[1] * 22))
"""More than 8,192 queries in a batch, as ten images of 900 have: code that computes in blocks loses some."""
CROWD = Extreme(layers=1, queries=120, classes=3, gt_groups=(110, 50, 40, 30), groups=1, near=False, crowd=True)
"""Targets that want the same queries: whoever looks at the best few for each finds pairs, and not the cheapest ones."""
LARGE = (
    Extreme(layers=7, queries=300, classes=80, gt_groups=(0, 41), groups=5),
    Extreme(
        layers=7, queries=33, classes=9, gt_groups=(0, 17, 9, 1, 0, 3, 33, 2, 5, 0, 10, 1, 4, 8, 0, 6, 11), groups=2
    ),
    Extreme(layers=2, queries=129, classes=257, gt_groups=(65, 0, 101), groups=1),
    Extreme(layers=2, queries=900, classes=91, gt_groups=(129,), groups=2),
)
"""Along several: RT-DETR's own sizes, a batch of 17 images, crowded images and DINO's 900 queries."""
ALL = (*SMALL, *LONG, *LARGE, EQUAL, MANY, CROWD)
"""A size that is added comes last: places decide which numbers are drawn."""

VARIANTS = {"smoke": 1, "standard": 2, "exhaustive": 5}
"""How often each size is drawn, by level."""
PLAIN = 3
"""So many rules of a family, the first ones, compare its numbers as they are; each of the others is about one thing."""
THIRDS = 3
"""At smoke the others see every third long case."""
TRIES = 20
"""So often numbers are drawn anew where rounding would decide who is matched."""
NEAR, SURE = 0.01, 4.0
"""How far from its target a box is that is to be matched, about, and the least logit of its class."""
IN_A_CROWD = (0.15, 0.15, 0.01, 0.01)
"""How far apart centres are there, about, and how different in size."""
LOGIT_SCALE = 1.5
"""Among so many classes and queries a wider spread has saturated logits, whose matching cost float32 cannot resolve."""
FAMILIES = frozenset({"MATCH", "CLASS", "REG", "AUX", "DN", "GRAD"})
"""Families of rules that see large cases."""


def extreme_cases(rule: Rule, judged: PortUnderTest, level: str, seed: int) -> Iterator[LossCase]:
    """Cases at the ends of sizes for a rule, as far as they are what it asks for.

    Args:
        rule: the rule.
        judged: the port; a case whose matching is not certain under its spec is drawn anew.
        level: decides how often each size is drawn.
        seed: another one draws other numbers.
    """
    request = rule.request
    if rule.listing is not None or not request.real or request.all_empty:
        return
    domain = domain_for(request, judged)
    plain = _without_sizes(domain.narrow(request))
    for variant, sizes in product(range(VARIANTS[level]), _sizes(rule, level)):
        case = _case(sizes, plain, domain, judged.spec, (seed, variant))
        if request.fits(case):
            yield case


def _sizes(rule: Rule, level: str) -> Sequence[Extreme]:
    """All of them; at smoke one that is large in turn, and two that are long unless the rule is about plain numbers.

    A rule on another dtype than float32 sees all that are long: half precision holds no large number of a class.
    """
    if rule.request.dtype != "float32" and rule.request.large:
        return (*SMALL, *LONG)
    if rule.family not in FAMILIES or not rule.request.large:
        return SMALL
    number = int(rule.id.partition("-")[2])
    if level != "smoke":
        return ALL
    long = (*LONG, EQUAL, MANY, CROWD) if number <= PLAIN else LONG[number % THIRDS :: THIRDS]
    return (*SMALL, *long, LARGE[number % len(LARGE)])


def _without_sizes(request: Request) -> Request:
    """What two requests that differ in sizes and numbers alone have in common."""
    chosen = ("classification", "query_groups", "aux_loss", "uni_match", "dtype", "matcher_options")
    denoising = "never" if request.denoising == "never" else "always"
    return Request(
        **{name: getattr(request, name) for name in chosen},
        denoising=denoising,
        near=False,
        special=(),
        logit_scale=LOGIT_SCALE,
    )


@lru_cache(maxsize=256)
def _case(sizes: Extreme, request: Request, domain: Domain, spec: LossSpec, seed: tuple[int, int]) -> LossCase:
    """The case of these sizes; the last one that was tried, where no matching is certain."""
    for attempt in range(TRIES):
        place = ALL.index(sizes)
        numbers = Numbers(np.random.default_rng((*seed, place, attempt)), grid=0, special=(), dtype=request.dtype)
        case = _drawn(sizes, place, request, domain, numbers)
        if oracle.matching_is_certain(case, spec):
            break
    return case


def _drawn(large: Extreme, place: int, request: Request, domain: Domain, numbers: Numbers) -> LossCase:
    targets, layers = sum(large.gt_groups), max(large.layers, domain.least_layers)
    sizes = sizes_for(domain, layers, large.queries, large.classes, large.gt_groups, request.query_groups[0])
    dtype = "float64" if request.dtype == "float64" else "float32"
    boxes = rounded(replace(numbers, dtype=dtype).boxes(targets), dtype)
    if large.crowd:
        boxes = rounded(np.abs(boxes[:1] + numbers.rng.normal(0.0, IN_A_CROWD, boxes.shape)), dtype)
    labels = numbers.rng.integers(0, large.classes, targets)
    case = case_on_targets(boxes, labels, sizes, request, domain, place, numbers, large.groups)
    if large.near:
        return with_matched_ones_last(case, domain.layers_vote, numbers.rng)
    return _with_layers_alike(case) if large.crowd and domain.layers_vote else case


def _with_layers_alike(case: LossCase) -> LossCase:
    """Every layer predicts what the first one does: in a crowd their votes would be a draw."""
    alike = {name: np.repeat(getattr(case, name)[:1], case.layers, axis=0) for name in ("pred_bboxes", "pred_scores")}
    return case.change(**alike)


def with_matched_ones_last(case: LossCase, layers_vote: bool, rng: np.random.Generator) -> LossCase:
    """The last queries near to targets, and sure of their classes: they are matched, and rounding leaves no doubt.

    Each layer has them in another order. Where layers vote they are alike in all of them, or the vote were a draw.
    """
    boxes, logits = case.pred_bboxes.copy(), case.pred_scores.copy()
    for layer, image in product(range(case.layers), range(case.images)):
        targets = np.arange(case.targets)[case.of_image(image)][-case.queries :]
        last = np.arange(case.queries - len(targets), case.queries)
        if layers_vote and layer:
            boxes[layer, image, last], logits[layer, image, last] = boxes[0, image, last], logits[0, image, last]
        else:
            own = np.roll(targets, layer)
            near = np.abs(case.gt_bboxes[own] + rng.normal(0.0, NEAR, (len(own), 4)))
            boxes[layer, image, last] = rounded(near, case.dtype)
            sure = np.abs(logits[layer, image, last, case.gt_cls[own]]) + SURE
            logits[layer, image, last, case.gt_cls[own]] = rounded(sure, case.dtype)
    return case.change(pred_bboxes=boxes, pred_scores=logits)
