"""The questions, in the order in which one needs the answers of those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from detr_conformance.identify.answers import BROKEN, FINITE, GENERATED, MATCHING, Answers
from detr_conformance.identify.cases import (
    FEW,
    CaseMaker,
    broken,
    generators,
    grouped,
    hopeless,
    numbered,
    shrunk,
    with_other_matchers,
)
from detr_conformance.identify.decisions import Decision
from detr_conformance.identify.elimination import Choice, Names
from detr_conformance.identify.generated import names_of
from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig

POWERS = (0, 8, 12, 16)
"""Boxes are this many halvings smaller, where a guard shows in a loss."""
SMALL = (8, 12, 16, 20)
"""And where it shows in a matching."""
COSTS = tuple(
    f"matcher.{name}"
    for name in ("configured", "class_costs", "distance", "overlap", "total", "assign", "batch", "in_half")
)
CHOICE_OF_TERM = "choose_class_term"


@dataclass(frozen=True)
class Question:
    """Decisions that are taken together, and how they show.

    Attributes:
        about: what is looked at, in a few words.
        prefixes: how the paths of its decisions begin.
        names: the answers to look at, on a case.
        cases: where they show.
        kind: the classification loss that is asked for, where another may be used in its place; empty elsewhere.
    """

    about: str
    prefixes: tuple[str, ...]
    names: Names
    cases: Callable[[], Iterator[LossCase]]
    kind: str = ""

    def ways(self, decisions: Mapping[str, Decision], left: Mapping[str, Sequence[int]]) -> list[Choice]:
        """In how many ways its decisions can be taken with what is left."""
        if not self.kind or CHOICE_OF_TERM not in left:
            return _ways(left, (*self.prefixes, *_of_term(self.kind)))
        ways: list[Choice] = []
        for place in left[CHOICE_OF_TERM]:
            name = term_used(decisions[CHOICE_OF_TERM], place, self.kind)
            ways += [{CHOICE_OF_TERM: place} | way for way in _ways(left, (*self.prefixes, *_of_term(name)))]
        return ways


def term_used(decision: Decision, place: int, kind: str) -> str:
    """The name of the classification loss that is used where one of a kind is asked for."""
    name: str = decision.alternatives[place].value(LossConfig(**CLASSIFICATION[kind]), 1)
    return name


def _of_term(name: str) -> tuple[str, ...]:
    return (f"class_terms.{name}", f"normaliser.{name}") if name else ()


def _ways(left: Mapping[str, Sequence[int]], prefixes: Sequence[str]) -> list[Choice]:
    own = [path for path in left if f"{path}.".startswith(tuple(f"{each}." for each in prefixes))]
    return [dict(zip(own, places, strict=True)) for places in product(*(left[path] for path in own))]


def questions(answers: Answers, maker: CaseMaker) -> Iterator[Question]:
    """From the L1 loss to what makes denoising queries."""
    yield from _about_losses(answers, maker)
    yield from _about_matching(answers, replace(maker, queries=4, groups=FEW))
    if answers.can("query_groups"):
        yield from _about_groups(maker)
    if answers.can("denoising_group"):
        yield Question(
            "generator of denoising queries",
            ("denoising",),
            lambda case: [f"{GENERATED}{name}" for name in names_of(case)],
            lambda: generators(maker),
        )


def _about_losses(answers: Answers, maker: CaseMaker) -> Iterator[Question]:
    """What shows where every image has one query, so that nothing is left to a matcher."""
    yield Question(
        "L1 losses",
        ("normaliser.bbox", "gain", "box_terms.bbox", "matched_boxes", "returned", "layers"),
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
        yield _about_class(answers, maker.of_kind(kind))
    yield Question(
        "classification losses without targets",
        (CHOICE_OF_TERM,),
        lambda _: ["loss_class"],
        lambda: _of_every_kind(replace(maker, queries=4, groups=(0, 0))),
    )


def _about_class(answers: Answers, maker: CaseMaker) -> Question:
    by_gradient = answers.can("gradients")
    return Question(
        f"{maker.kind} losses{' and their gradients' if by_gradient else ''}",
        ("score", "class_total", "labels", "options"),
        lambda _: ["loss_class", "loss_class_aux", *["loss_class by pred_scores"] * by_gradient],
        lambda: numbered(maker.unambiguous),
        kind=maker.kind,
    )


def _about_matching(answers: Answers, maker: CaseMaker) -> Iterator[Question]:
    """What shows where queries compete, and everything else is known."""

    def matching(_case: LossCase) -> Sequence[str]:
        return [MATCHING] if answers.can("match") else ["loss_bbox", "loss_bbox_aux"]

    yield Question("matchings", COSTS if answers.can("match") else (*COSTS, "pairing"), matching, lambda: numbered(maker.case))
    yield Question(
        "matchings of hopeless queries", ("matcher.class_costs",), matching, lambda: hopeless(numbered(maker.case))
    )
    if answers.can("match") and answers.can("matcher_options"):
        yield Question(
            "matchings with other options",
            ("matcher.class_costs",),
            matching,
            lambda: with_other_matchers(numbered(maker.case)),
        )
    yield Question(
        "matchings of small boxes", ("matcher.guard",), matching, lambda: shrunk(numbered(maker.case), SMALL)
    )
    yield Question(
        "box losses of all layers",
        ("pairing",),
        lambda _: ["loss_bbox", "loss_bbox_aux", "loss_giou_aux"],
        lambda: _shared(answers, maker),
    )
    yield Question(
        "matchings of numbers that are not finite",
        ("matcher.non_finite",),
        lambda case: [BROKEN] if answers.can("match") else _finite(case),
        lambda: broken(numbered(maker.case)),
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
    kinds = sorted(maker.domain.classification)
    return (maker.of_kind(kinds[number % len(kinds)]).case(number) for number in range(4 * len(kinds)))


def _shared(answers: Answers, maker: CaseMaker) -> Iterator[LossCase]:
    """Cases whose auxiliary layers share a matching in turn, where the port can be asked for that."""
    for case in numbered(maker.case):
        yield case
        if answers.can("uni_match"):
            yield case.change(use_uni_match=True, uni_match_ind=1)
