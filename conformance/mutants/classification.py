"""Mutants in what a query is classified as: labels and target scores."""

from __future__ import annotations

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import Guard, replace_in
from detr_conformance.reference.boxes import giou
from detr_conformance.reference.classification import Terms, label
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, stop_gradient

STEP_3 = "loss specification, DETRLoss, step 3"
STEP_4 = "loss specification, DETRLoss, step 4"


def softmax_entropy(x: Terms, q: Terms) -> Terms:
    """-q log softmax(x): the classes of a query share one probability."""
    below = x - plain(x).max(axis=-1, keepdims=True)
    return -q * (below - np.log(np.sum(np.exp(below), axis=-1))[..., None])


def detached_giou(boxes: Array, wanted: np.ndarray, guard: Guard) -> Array:
    """The GIoU, a constant."""
    return giou(stop_gradient(boxes), wanted, guard)


def of_next_pair(targets: np.ndarray) -> np.ndarray:
    """The target of the next pair, for each; that of the first for the last."""
    return targets[[*range(1, len(targets)), *range(min(len(targets), 1))]]


CLASSIFICATION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-background-is-last-class",
        "CLASS",
        "The background has the number nc - 1, which is that of the last class. Right: nc. Shows with any query "
        "without a target.",
        f"{STEP_3}: target class",
        wrapped("labels", lambda right, *of_batch: np.minimum(right(*of_batch), of_batch[-1] - 1)),
    ),
    Mutant(
        "plausible-labels-from-one",
        "CLASS",
        "Labels are read as if they counted from 1 as in an annotation file. Right: class 0 is the first column. Shows "
        "on any matched query.",
        f"{STEP_3}: target class",
        wrapped("labels", lambda right, *of_batch: np.minimum(right(*of_batch) + 1, of_batch[-1])),
    ),
    Mutant(
        "plausible-softmax-cross-entropy",
        "CLASS",
        "The cross-entropy is that of a softmax over the classes. Right: every class is a binary problem of its own. "
        "Shows in the background, which has no share in it.",
        f"{STEP_4}: not use_fl",
        lambda spec: replace_in(spec, "class_terms.bce.entropy", softmax_entropy),
    ),
    Mutant(
        "plausible-bce-hard-labels",
        "CLASS",
        "The cross-entropy is taken against the label, as in lyuwenyu/RT-DETR's loss_labels_bce. Right under this "
        "profile: against the IoU. Shows on any matched query.",
        f"{STEP_4}: not use_fl",
        lambda spec: replace_in(spec, "class_terms.bce.target", label),
    ),
    Mutant(
        "plausible-giou-as-score",
        "CLASS",
        "The target score is the GIoU. Right: the IoU, which is never below 0. Shows on any matched query.",
        f"{STEP_3}: target score",
        lambda spec: replace_in(spec, "score", detached_giou),
    ),
    Mutant(
        "plausible-scores-of-other-pairs",
        "CLASS",
        "Predictions and targets come in different orders when their IoU is taken. Right: pair by pair. Shows with two "
        "targets.",
        f"{STEP_3}: target score",
        wrapped("score", lambda right, boxes, wanted, guard: right(boxes, of_next_pair(wanted), guard)),
    ),
)
