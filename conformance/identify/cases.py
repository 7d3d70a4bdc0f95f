"""Cases on which conventions differ, and which all of them define: endless rows, the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, product
from typing import Any

import numpy as np

from detr_conformance.identify.decisions import class_losses
from detr_conformance.properties.case import (
    CLASSIFICATION,
    GeneratorConfig,
    LossCase,
    LossConfig,
    Masks,
    MatcherConfig,
)
from detr_conformance.properties.drawing import Pool, pool
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain, Sizes, assemble, by_term, denoising_queries, predict
from detr_conformance.properties.tolerance import rounded

LAYERS = 3
"""Of most cases: every convention defines the loss of so many."""
CLASSES = 3
DTYPE = "float32"
REQUEST = Request(special=(), dtype=DTYPE)
ONE_QUERY = (3, 1, 1, 1, 0)
"""Targets of images with one query each: pairs, targets, images and queries all differ in number."""
FEW = (3, 2)
"""Targets of images with several queries."""
BREAKS = ((np.nan, True), (np.inf, True), (np.nan, False))
"""What is put in place of numbers, and whether in place of boxes, or else of logits."""
ANY = Request(
    layers=(3, 4),
    images=(1, 3),
    queries=(2, 6),
    targets=(0, 3),
    aux_loss=(True, False),
    uni_match=(False, True),
    special=(),
)
"""Cases on which everything is looked at."""


@dataclass(frozen=True)
class CaseMaker:
    """Makes cases that a port can be asked for.

    Attributes:
        domain: what the port declares.
        kind: the classification loss to ask for.
        layers: number of layers.
        queries: number of queries of an image.
        denoising_less: so many layers of denoising queries less than others.
        groups: number of targets of each image.
    """

    domain: Domain
    kind: str
    layers: int = LAYERS
    queries: int = 1
    denoising_less: int = 1
    groups: tuple[int, ...] = ONE_QUERY

    @staticmethod
    def of(judged: PortUnderTest) -> CaseMaker:
        """For a port, with its first classification loss."""
        domain = replace(Domain.of(judged), areas=False, surplus=False)
        return CaseMaker(domain, min(domain.classification))

    def case(self, number: int, **options: Any) -> LossCase:
        """One of many: boxes near their targets, and logits of a few units."""
        numbers = Numbers(np.random.default_rng(number), grid=0, special=(), dtype=DTYPE)
        return assemble(self.sizes, self._config(number, options), numbers, REQUEST)

    def unambiguous(self, number: int, **options: Any) -> LossCase:
        """A case whose loss needs no matcher: an image has one query, and its targets are all the same."""
        case = self.case(number, **options)
        first = np.repeat([case.of_image(image).start for image in range(case.images)], case.gt_groups)
        boxes, classes = case.gt_bboxes[first], case.gt_cls[first]
        numbers = Numbers(np.random.default_rng(number), grid=0, special=(), dtype=DTYPE)
        return predict(boxes, classes, self.sizes, case.config, numbers, REQUEST)

    def with_denoising(self, number: int) -> LossCase:
        """A case with two groups of denoising queries."""
        case = self.case(number)
        numbers = Numbers(np.random.default_rng(number), grid=0, special=(), dtype=DTYPE)
        layers = self.layers - self.denoising_less
        return case.change(denoising=denoising_queries(case, layers, 2, 0, subset=False, numbers=numbers))

    def of_kind(self, kind: str) -> CaseMaker:
        """The same for another classification loss."""
        return replace(self, kind=kind)

    @property
    def columns(self) -> Callable[[int], int]:
        """Number of columns of the logits that the classification loss reads, from the number of classes."""
        return class_losses()[self.kind].columns

    @property
    def sizes(self) -> Sizes:
        """The structure of its cases."""
        layers, columns = self.layers - self.denoising_less, self.columns(CLASSES)
        return Sizes(self.layers, layers, self.queries, CLASSES, self.groups, columns)

    def _config(self, number: int, options: dict[str, Any]) -> LossConfig:
        domain = self.domain
        kind: dict[str, Any] = CLASSIFICATION[self.kind]
        config = LossConfig(
            nc=CLASSES,
            loss_gain=by_term(domain.gains[number % len(domain.gains)]),
            gamma=_nth(domain.gammas, number),
            alpha=_nth(domain.alphas, number),
            **kind,
        )
        return replace(config, **options)


def _nth(values: Sequence[float], number: int) -> float:
    """Of the first three values, which are ordinary ones."""
    return values[number % min(len(values), 3)]


def numbered(make: Callable[..., LossCase], **options: Any) -> Iterator[LossCase]:
    """The cases number 0, 1, 2 and so on."""
    return (make(number, **options) for number in count())


def shrunk(cases: Iterator[LossCase], powers: Sequence[int]) -> Iterator[LossCase]:
    """Cases with all boxes made smaller by these powers of 2 in turn.

    They move towards a corner of the image with it: so small, and elsewhere, they would be lost in rounding.
    """
    return (_scaled(case, 2.0**-power) for case, power in zip(cases, cycle(powers), strict=False))


def _scaled(case: LossCase, factor: float) -> LossCase:
    return case.change(pred_bboxes=case.pred_bboxes * factor, gt_bboxes=case.gt_bboxes * factor)


def grouped(maker: CaseMaker) -> Iterator[LossCase]:
    """Cases with two groups of two queries and few targets."""
    two = replace(maker, queries=4, groups=(2, 1, 0))
    return (two.case(number, query_groups=2) for number in count())


def with_other_matchers(cases: Iterator[LossCase]) -> Iterator[LossCase]:
    """Cases that ask for a matcher with other options than the loss's own."""
    for case, (alpha, gamma) in zip(cases, cycle(product((0.75, 0.1), (1.0, 3.0))), strict=False):
        yield case.change(matcher=MatcherConfig(alpha=alpha, gamma=gamma))


def two_alike(cases: Iterator[LossCase]) -> Iterator[LossCase]:
    """Cases with two equal layers out of three: no vote of layers is a draw."""
    for number, case in enumerate(cases):
        order = [0, 0, 0]
        order[number % LAYERS] = 1
        yield case.change(pred_bboxes=case.pred_bboxes[order], pred_scores=case.pred_scores[order])


def hopeless(cases: Iterator[LossCase]) -> Iterator[LossCase]:
    """Cases with logits of minus dozens: there an eps inside a logarithm shows, which rounding hides near p = 1."""
    return (case.change(pred_scores=-8.0 * np.abs(case.pred_scores)) for case in cases)


def broken(cases: Iterator[LossCase]) -> Iterator[LossCase]:
    """Cases in which, in turn, a box or the logits of a query of each layer and image are NaN or infinite."""
    for case, (value, in_boxes) in zip(cases, cycle(BREAKS), strict=False):
        boxes, logits = case.pred_bboxes.copy(), case.pred_scores.copy()
        (boxes if in_boxes else logits)[:, :, 0] = value
        yield case.change(pred_bboxes=boxes, pred_scores=logits)


def generators(maker: CaseMaker) -> Iterator[LossCase]:
    """Cases for the generator of denoising queries.

    Without noise; with much, and with much on boxes as large as the image; with more targets than queries; without
    targets.
    """

    def case(groups: tuple[int, ...], num_dn: int, noise: float) -> LossCase:
        config = GeneratorConfig(num_dn=num_dn, cls_noise_ratio=0.0, box_noise_scale=noise)
        return replace(maker, groups=groups).case(0).change(generator=config)

    yield case((2, 0, 1), 6, 0.0)
    inside = case((1, 0), 200, 1.0)
    yield inside.change(gt_bboxes=np.tile([0.5, 0.5, 0.125, 0.125], (inside.targets, 1)))
    large = case((2, 0, 1), 200, 1.0)
    yield large.change(gt_bboxes=np.tile([0.5, 0.5, 1.0, 1.0], (large.targets, 1)))
    yield case((1, 5), 3, 0.0)
    yield case((0, 0), 6, 0.0)


def of_any_convention(maker: CaseMaker, number: int) -> Pool:
    """Cases of all kinds, as far as every convention defines them and the port can be asked for them."""
    alike = frozenset(kind for kind in maker.domain.classification if maker.of_kind(kind).columns is maker.columns)
    layers = _one_less if maker.denoising_less else _as_many
    own = replace(maker.domain, classification=alike, working=alike, columns=maker.columns, denoising_layers=layers)
    return pool(ANY, own, number)


def _one_less(layers: int) -> int:
    return layers - 1


def _as_many(layers: int) -> int:
    return layers


def with_masks(case: LossCase) -> LossCase:
    """The case with masks of a few pixels."""
    rng = np.random.default_rng(case.targets)
    pred = rounded(rng.normal(0.0, 2.0, (*case.pred_bboxes.shape[:3], 2, 3)), case.dtype)
    objects = (rng.random((case.targets, 4, 3)) < 0.5).astype(np.float64)
    return case.change(masks=Masks(pred, objects, ((4, 3),) * case.images))


def with_masks_at_points(case: LossCase) -> LossCase:
    """The case with such masks, and three points for each target and each image."""
    masks, rng = with_masks(case).masks, np.random.default_rng(case.targets)
    assert masks is not None  # noqa: S101  # as has just been made
    points = [rounded(rng.random((count, 3, 2)), case.target_dtype) for count in (case.targets, case.images)]
    return case.change(masks=replace(masks, loss_points=points[0], cost_points=points[1]))


WITH: dict[str, Callable[[LossCase], LossCase]] = {"masks": with_masks, "mask_points": with_masks_at_points}
"""What puts into a case what extra terms read, by the capability of those who have them."""
