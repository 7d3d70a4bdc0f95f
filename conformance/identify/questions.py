"""The questions, in the order in which one needs the answers of those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detr_conformance.identify.answers import BROKEN, FINITE, MATCHING, Answers
from detr_conformance.identify.cases import FEW, CaseMaker, broken, numbered, hopeless, shrunk
from detr_conformance.properties.case import LossCase

POWERS = (0, 8, 12, 16)
"""Boxes are this many halvings smaller, where a guard shows."""
SMALL = (8, 12, 16, 20)
MATCHING_FIELDS = tuple(
    f"matcher.{name}"
    for name in ("configured", "class_costs", "distance", "overlap", "total", "assign", "batch", "in_half")
)


@dataclass(frozen=True)
class Question:
    """Decisions that are taken together, and how they show.

    Attributes:
        about: what is asked, in a word or two.
        prefixes: how the paths of its decisions begin.
        names: the answers to look at, on a case.
        cases: where they show.
    """

    about: str
    prefixes: tuple[str, ...]
    names: Callable[[LossCase], Sequence[str]]
    cases: Callable[[], Iterator[LossCase]]

    def paths(self, every: Sequence[str]) -> list[str]:
        """Its decisions, out of all."""
        return [path for path in every if f"{path}.".startswith(tuple(f"{each}." for each in self.prefixes))]


def questions(answers: Answers, maker: CaseMaker) -> Iterator[Question]:
    """From L1 loss to non-finite costs."""
    several = replace(maker, queries=4, groups=FEW)
    gradients = answers.can("gradients")
    yield Question(
        "L1 loss",
        ("normaliser.bbox", "gain", "box_terms.bbox", "matched_boxes", "returned", "layers"),
        lambda _: ["loss_bbox", "loss_bbox_aux"],
        lambda: numbered(maker.unambiguous),
    )
    yield Question(
        "GIoU loss",
        ("guard", "normaliser.giou", "box_terms.giou"),
        lambda _: ["loss_giou", "loss_giou_aux"],
        lambda: shrunk(numbered(maker.unambiguous), POWERS),
    )
    for kind in sorted(maker.domain.classification):
        yield Question(
            f"{kind} loss",
            (f"class_terms.{kind}", f"normaliser.{kind}", "score", "class_total", "labels", "options"),
            lambda _: ["loss_class", "loss_class_aux", *["loss_class by pred_scores"] * gradients],
            lambda kind=kind: numbered(replace(maker, kind=kind).unambiguous),
        )
    yield Question(
        "no targets",
        ("choose_class_term",),
        lambda _: ["loss_class"],
        lambda: _of_every_kind(replace(several, groups=(0, 0))),
    )
    matching = [MATCHING] if answers.can("match") else ["loss_bbox", "loss_bbox_aux"]
    yield Question("matching", MATCHING_FIELDS, lambda _: matching, lambda: numbered(several.case))
    yield Question(
        "matching of hopeless queries",
        ("matcher.class_costs",),
        lambda _: matching,
        lambda: hopeless(numbered(several.case)),
    )
    yield Question(
        "matching of small boxes", ("matcher.guard",), lambda _: matching, lambda: shrunk(numbered(several.case), SMALL)
    )
    yield Question(
        "matching of layers",
        ("pairing",),
        lambda _: ["loss_bbox", "loss_bbox_aux", "loss_giou_aux"],
        lambda: _shared(answers, several),
    )
    yield Question(
        "matching of broken predictions",
        ("matcher.non_finite",),
        lambda case: [BROKEN] if answers.can("match") else _finite(case),
        lambda: broken(numbered(several.case)),
    )


def _finite(case: LossCase) -> list[str]:
    """A box that is no number shows in the losses where it is matched; what logits do shows everywhere."""
    return [f"{key}{FINITE}" for key in ("loss_bbox", "loss_bbox_aux")] if np.isfinite(case.pred_scores).all() else []


def _of_every_kind(maker: CaseMaker) -> Iterator[LossCase]:
    kinds = sorted(maker.domain.classification)
    return (replace(maker, kind=kinds[number % len(kinds)]).case(number) for number in range(4 * len(kinds)))


def _shared(answers: Answers, maker: CaseMaker) -> Iterator[LossCase]:
    """Cases whose auxiliary layers share a matching in turn, where the port can be asked for that."""
    number = 0
    while True:
        yield maker.case(number)
        if answers.can("uni_match"):
            yield maker.case(number, use_uni_match=True, uni_match_ind=1)
        number += 1
