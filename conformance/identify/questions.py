"""The questions, in the order in which one needs the answers of those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from detr_conformance.identify.answers import BROKEN, FINITE, GENERATED, MATCHING
from detr_conformance.identify.cases import (
    FEW,
    CaseMaker,
    broken,
    generators,
    grouped,
    hopeless,
    numbered,
    shrunk,
    two_alike,
    with_other_matchers,
)
from detr_conformance.identify.generated import names_of
from detr_conformance.identify.question import CHOICE_OF_TERM, Question
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.properties.case import LossCase

Can = Callable[[str], bool]
"""Whether a capability is declared."""

POWERS = (0, 16, 12, 20, 8)
"""Boxes are this many halvings smaller, where a guard shows in a loss."""
SMALL = (8, 12, 16, 20)
"""And where it shows in a matching."""
COSTS = tuple(
    f"matcher.{name}"
    for name in (
        "configured",
        "class_costs",
        "distance",
        "overlap",
        "total",
        "assign",
        "batch",
        "in_half",
        "inside_loss",
    )
)
RARE = 15
"""Patience where a difference shows in few cases only."""


def questions(can: Can, maker: CaseMaker) -> Iterator[Question]:
    """From the L1 loss to what makes denoising queries."""
    yield from _about_losses(can, maker)
    yield from _about_matching(can, replace(maker, queries=4, groups=FEW))
    if can("denoising"):
        yield from _about_denoising(maker)
    if can("query_groups"):
        yield from _about_groups(maker)
    if can("denoising_group"):
        yield Question(
            "generator of denoising queries",
            ("denoising",),
            lambda case: [f"{GENERATED}{name}" for name in names_of(case)],
            lambda: generators(maker),
        )


def _about_losses(can: Can, maker: CaseMaker) -> Iterator[Question]:
    """What shows where every image has one query, so that nothing is left to a matcher."""
    yield Question(
        "L1 losses",
        ("normaliser.bbox", "gain", "box_terms.bbox", "matched_boxes", "returned"),
        lambda _: ["loss_bbox", "loss_bbox_aux"],
        lambda: numbered(maker.unambiguous),
    )
    yield Question(
        "GIoU losses of small and large boxes",
        ("guard", "normaliser.giou", "box_terms.giou"),
        lambda _: ["loss_giou", "loss_giou_aux"],
        lambda: shrunk(numbered(maker.unambiguous), POWERS),
    )
    for kind in sorted(maker.domain.classification):
        yield _about_class(can, maker.of_kind(kind))
    yield Question(
        "classification losses without targets",
        (CHOICE_OF_TERM,),
        lambda _: ["loss_class"],
        lambda: _of_every_kind(replace(maker, queries=4, groups=(0, 0))),
        patience=2 * len(maker.domain.classification),
    )


def _about_class(can: Can, maker: CaseMaker) -> Question:
    by_gradient = can("gradients")
    return Question(
        f"{maker.kind} losses{' and their gradients' if by_gradient else ''}",
        ("score", "class_total", "labels", "options"),
        lambda _: ["loss_class", "loss_class_aux", *[gradient_name("loss_class", "pred_scores")] * by_gradient],
        lambda: numbered(maker.unambiguous),
        kind=maker.kind,
    )


def _about_matching(can: Can, maker: CaseMaker) -> Iterator[Question]:
    """What shows where queries compete, and everything else is known."""

    def matching(_case: LossCase) -> Sequence[str]:
        return [MATCHING] if can("match") else ["loss_bbox", "loss_bbox_aux"]

    if can("match") and can("matcher_options"):
        yield Question(
            "matchings with other options",
            ("matcher.class_costs",),
            matching,
            lambda: with_other_matchers(numbered(maker.case)),
            RARE,
        )
    yield Question(
        "matchings", COSTS if can("match") else (*COSTS, "pairing"), matching, lambda: _of_every_kind(maker), RARE
    )
    yield Question(
        "matchings of hopeless queries",
        ("matcher.class_costs",),
        matching,
        lambda: hopeless(numbered(maker.case)),
        RARE,
    )
    yield Question(
        "matchings of small boxes", ("matcher.guard",), matching, lambda: shrunk(numbered(maker.case), SMALL), RARE
    )
    yield Question(
        "box losses of all layers",
        ("pairing",),
        lambda _: ["loss_bbox", "loss_bbox_aux", "loss_giou_aux"],
        lambda: _shared(can, maker),
        RARE,
    )
    yield Question(
        "matchings of numbers that are not finite",
        ("matcher.non_finite",),
        lambda case: [BROKEN] if can("match") else _finite(case),
        lambda: broken(numbered(maker.case)),
        RARE,
    )


def _about_denoising(maker: CaseMaker) -> Iterator[Question]:
    """What normalisers count of denoising queries."""
    for term in ("bbox", "giou"):
        yield Question(
            "box losses of denoising queries",
            (f"normaliser.{term}",),
            lambda _, term=term: [f"loss_{term}_dn"],  # type: ignore[misc]  # a default that binds the loop's variable
            lambda: numbered(maker.with_denoising),
        )
    for kind in sorted(maker.domain.classification):
        yield Question(
            f"{kind} losses of denoising queries",
            (),
            lambda _: ["loss_class_dn"],
            lambda kind=kind: numbered(maker.of_kind(kind).with_denoising),  # type: ignore[misc]  # likewise
            kind=kind,
        )


def _about_groups(maker: CaseMaker) -> Iterator[Question]:
    """Whether queries fall into groups, and whether normalisers count them."""
    for term in ("bbox", "giou"):
        yield Question(
            "box losses with groups of queries",
            ("query_groups", f"normaliser.{term}"),
            lambda _, term=term: [f"loss_{term}"],  # type: ignore[misc]  # a default that binds the loop's variable
            lambda: grouped(maker),
        )
    for kind in sorted(maker.domain.classification):
        yield Question(
            f"{kind} losses with groups of queries",
            (),
            lambda _: ["loss_class"],
            lambda kind=kind: grouped(maker.of_kind(kind)),  # type: ignore[misc]  # likewise
            kind=kind,
        )


def _finite(case: LossCase) -> list[str]:
    """A box that is no number shows in the losses where it is matched; what logits do shows everywhere."""
    return [f"{key}{FINITE}" for key in ("loss_bbox", "loss_bbox_aux")] if np.isfinite(case.pred_scores).all() else []


def _of_every_kind(maker: CaseMaker) -> Iterator[LossCase]:
    """Cases that ask for one classification loss after the other."""
    kinds = sorted(maker.domain.classification)
    return (maker.of_kind(kinds[number % len(kinds)]).case(number) for number in count())


def _shared(can: Can, maker: CaseMaker) -> Iterator[LossCase]:
    """Cases whose auxiliary layers share a matching in turn, where the port can be asked for that."""
    for case in two_alike(numbered(maker.case)):
        yield case
        if can("uni_match"):
            yield case.change(use_uni_match=True, uni_match_ind=1)
