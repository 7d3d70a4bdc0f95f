"""Mutants in what a sum is divided and multiplied by: the normaliser and the gains."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.normaliser import Normaliser, Tally, per_query, per_target
from detr_conformance.reference.spec import value_in

STEP_2 = "loss specification, DETRLoss, step 2"
STEP_4 = "loss specification, DETRLoss, step 4"
STEP_5 = "loss specification, DETRLoss, step 5"

FOCAL = ("focal", "varifocal")
BOX = ("bbox", "giou")
TERMS = (*FOCAL, "bce", *BOX)


def divided(wrong: Callable[[Normaliser, Tally], float], *terms: str) -> Change:
    """Another divisor of these terms, from the right one and what there is to divide by."""
    return lambda spec: reduce(lambda made, term: wrapped(f"normaliser.{term}", wrong)(made), terms, spec)


def counted(wrong: Callable[[Normaliser, Tally], float]) -> Change:
    """N counted otherwise. Cross-entropy knows no N where it is divided by the queries."""
    return lambda spec: divided(wrong, *(term for term, right in spec.normaliser.items() if right is not per_query))(
        spec
    )


def by_targets(spec: LossSpec) -> LossSpec:
    """Every target counts, also one without a query."""
    return replace_in(
        spec,
        "normaliser",
        {term: right if right is per_query else per_target for term, right in spec.normaliser.items()},
    )


def unguarded(right: Normaliser, tally: Tally) -> float:
    """N, also where it is 0."""
    return right(tally) if sum(tally.pairs) else 0.0


NORMALISER_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "netspresso-normaliser-commented-out",
        "CLASS",
        "The lines that kept the number of targets at 1 or more were commented out in a port: a batch without targets "
        "was divided by 0. Right: max(N, 1). Shows in such a batch: loss_class is infinite, the box losses are NaN.",
        "Nota-NetsPresso/netspresso-trainer, commit 8fade566",
        counted(unguarded),
    ),
    Mutant(
        "rtdetrv3-focal-mean",
        "CLASS",
        "The focal loss was a mean over images, queries and classes. Right: the sum over them, divided by the number "
        "of pairs. Shows in any focal loss.",
        "yyq19990828/RT-DETRv3-PyTorch, commit 77920d2, focal loss of the criterion",
        divided(lambda _right, tally: len(tally.targets) * tally.queries * tally.classes, *FOCAL),
    ),
    Mutant(
        "plausible-mean-over-queries-not-undone",
        "CLASS",
        "The focal losses return a mean over the queries, which was divided by N and not multiplied by Q. Right: times "
        "Q / max(N, 1). Shows with two queries.",
        f"{STEP_4}: the caller multiplies by Q / max(N, 1)",
        divided(lambda right, tally: right(tally) * tally.queries, *FOCAL),
    ),
    Mutant(
        "plausible-bce-by-pairs",
        "CLASS",
        "Cross-entropy is divided by the number of pairs, as the focal losses are. Right: by the number of queries. "
        "Shows where the two differ.",
        f"{STEP_4}: not use_fl",
        lambda spec: replace_in(spec, "normaliser.bce", value_in(spec, "normaliser.focal")),
    ),
    Mutant(
        "plausible-divided-by-scores",
        "CLASS",
        "The focal losses are divided by the sum of the target scores, as one-stage detectors do. Right: by the number "
        "of pairs. Shows where predictions are not perfect.",
        f"{STEP_4}: both",
        divided(lambda _right, tally: max(tally.scores, 1.0), *FOCAL),
    ),
    Mutant(
        "hf-lwdetr-class-coef-ignored",
        "CLASS",
        "The weight of the classification loss was 1 whatever the configuration said. Right: as configured. Shows with "
        "any other class gain.",
        "huggingface/transformers up to 5.6, loss/loss_lw_detr.py",
        wrapped("gain", lambda right, loss, term, c: loss if term == "class" else right(loss, term, c)),
    ),
    Mutant(
        "plausible-class-gain-twice",
        "CLASS",
        "The class gain is applied in the loss and once more where losses are added up. Right: once. Shows with a "
        "class gain other than 1.",
        f"{STEP_4}: times loss_gain",
        wrapped("gain", lambda right, loss, term, c: right(right(loss, term, c) if term == "class" else loss, term, c)),
    ),
    Mutant(
        "plausible-giou-gain-on-l1",
        "REG",
        "The L1 loss is multiplied by the gain of the GIoU loss. Right: each by its own. Shows where the two gains "
        "differ.",
        STEP_5,
        wrapped("gain", lambda right, loss, term, c: right(loss, "giou" if term == "bbox" else term, c)),
    ),
    Mutant(
        "khub-padding-counts-as-boxes",
        "REG",
        "Targets were padded to the same number in every image, and the normaliser counted the padding. Right: the "
        "targets there are. Shows where images have different numbers of targets.",
        "keras-team/keras-hub 0.32.0, models/d_fine/d_fine_loss.py",
        counted(lambda _right, tally: max(len(tally.targets) * max(tally.targets), 1) * tally.groups),
    ),
    Mutant(
        "plausible-divided-by-targets",
        "REG",
        "The normaliser is the number of targets, as in DETR. Right under this profile: of matched pairs. Shows with "
        "fewer queries than targets.",
        STEP_2,
        by_targets,
    ),
    Mutant(
        "plausible-divided-by-all-queries",
        "REG",
        "Sums are averaged over all queries of all images. Right: divided by the number of pairs. Shows with queries "
        "without a target.",
        STEP_2,
        counted(lambda _right, tally: tally.queries * len(tally.targets)),
    ),
    Mutant(
        "plausible-divided-by-pairs-of-all-layers",
        "REG",
        "All layers of ordinary queries are flattened into one batch, and the divisor counts that batch. Right: one "
        "layer. Shows with two layers.",
        f"{STEP_2}: matched pairs in this call",
        divided(lambda right, tally: right(tally) * (1 if tally.is_denoising else tally.layers), *TERMS),
    ),
)
