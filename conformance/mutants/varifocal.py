"""Mutants in the varifocal loss: its terms, its options, and when it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, LossSpec, replace_in
from detr_conformance.reference.classification import Terms, label
from detr_conformance.reference.family import as_asked
from detr_conformance.reference.rounding import plain

FORMULA = "loss specification, DETRLoss, step 4: varifocal"
CHOICE = "choose_class_term"
WEIGHT = "class_terms.varifocal.weight"


def without_varifocal(right: Callable[..., str], config: LossConfig, pairs: int) -> str:
    """Focal, wherever varifocal belongs."""
    name = right(config, pairs)
    return "focal" if name == "varifocal" else name


def options_of_matcher(spec: LossSpec) -> LossSpec:
    """The varifocal loss has the matcher's gamma and alpha."""

    def options(config: LossConfig) -> LossConfig:
        matcher = spec.matcher.configured(config)
        return replace(config, gamma=matcher.gamma, alpha=matcher.alpha)

    return wrapped(WEIGHT, lambda right, x, y, q, c: right(x, y, q, options(c)))(spec)


def of_row(scores: Terms) -> Terms:
    """The score of each query, whatever its class."""
    return np.sum(scores, axis=-1)[..., None]


VARIFOCAL_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "paddle-vfl-dangling-else",
        "CLASS",
        "A dangling else reset the IoU after it was computed, so that the varifocal loss was silently the focal one. "
        "Right: if / elif / else. Shows on any matched query.",
        "PaddlePaddle/PaddleDetection, pull request 8409",
        wrapped(CHOICE, without_varifocal),
    ),
    Mutant(
        "ul-vfl-own-defaults",
        "CLASS",
        "The varifocal loss had gamma 2 and alpha 0.75 whatever the loss was built with, as before 8.3.116. Right "
        "under this profile: gamma and alpha of the loss, by default 1.5 and 0.25. Shows with any target.",
        "ultralytics/ultralytics, pull request 20292",
        wrapped(WEIGHT, lambda right, x, y, q, c: right(x, y, q, replace(c, gamma=2.0, alpha=0.75))),
    ),
    Mutant(
        "khub-vfl-options-of-matcher",
        "CLASS",
        "The varifocal loss was built with alpha and gamma of the matcher. Right: the loss has its own. Shows with any "
        "others.",
        "keras-team/keras-hub 0.32.0, models/d_fine/d_fine_loss.py",
        options_of_matcher,
    ),
    Mutant(
        "rfdetr-vfl-no-overlap-is-background",
        "CLASS",
        "A matched query whose box does not touch its target was weighted as background. Right under this profile: its "
        "weight is the IoU, 0. Shows where a prediction misses its target.",
        "roboflow/rf-detr 1.11.2, use_varifocal_loss",
        wrapped(WEIGHT, lambda right, x, y, q, c: right(x, np.where(plain(q) > 0, y, 0.0), q, c)),
    ),
    Mutant(
        "plausible-vfl-without-targets",
        "CLASS",
        "A batch without targets keeps the varifocal loss, as lyuwenyu/RT-DETR has it. Right under this profile: the "
        "focal loss takes its place. Shows in the weight of the background of such a batch.",
        FORMULA,
        lambda spec: replace_in(spec, CHOICE, as_asked),
    ),
    Mutant(
        "plausible-vfl-without-fl",
        "CLASS",
        "use_vfl alone selects the varifocal loss. Right: without use_fl it is ignored. Shows with use_fl off.",
        "loss specification, DETRLoss, step 4: not use_fl",
        wrapped(CHOICE, lambda right, c, pairs: right(replace(c, use_fl=c.use_fl or c.use_vfl), pairs)),
    ),
    Mutant(
        "plausible-vfl-unweighted-targets",
        "CLASS",
        "Terms of targets have weight 1. Right: weight q, the IoU. Shows on any matched query.",
        FORMULA,
        wrapped(WEIGHT, lambda right, x, y, q, c: right(x, y, q, c) - q + y),
    ),
    Mutant(
        "plausible-vfl-hard-targets",
        "CLASS",
        "The IoU weighs the cross-entropy, which is taken against the label. Right: against the IoU too. Shows on any "
        "matched query.",
        FORMULA,
        lambda spec: replace_in(spec, "class_terms.varifocal.target", label),
    ),
    Mutant(
        "plausible-vfl-partly-background",
        "CLASS",
        "The background's weight is multiplied by 1 - q. Right: by 1 - y, so that a target's class has none of it. "
        "Shows on any matched query.",
        FORMULA,
        wrapped(WEIGHT, lambda right, x, _y, q, c: right(x, q, q, c)),
    ),
    Mutant(
        "plausible-vfl-score-of-every-class",
        "CLASS",
        "The IoU of a matched query is the target of all its classes. Right: of its target's class, 0 for the others. "
        "Shows with two classes.",
        FORMULA,
        wrapped("class_terms.varifocal.terms", lambda right, term, x, y, q, c: right(term, x, y, of_row(q), c)),
    ),
)
