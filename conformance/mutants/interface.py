"""Mutants in the form of the result: keys, shapes, dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import wrap_in
from detr_conformance.reference.keys import Call, KeyTable, StepLosses

Named = dict[str, Any]
"""Losses by key."""

ReturnedLosses = tuple[np.ndarray, str]
"""A loss and its dtype."""


@dataclass(frozen=True)
class OtherKeys(KeyTable):
    """The right table, and what is made of the losses that it has named.

    Attributes:
        right: the right table.
        change: from the named losses and those of the step to what is returned.
    """

    right: KeyTable
    change: Callable[[Named, StepLosses], Named]

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """As it should be."""
        return self.right.expected(call)

    def canonical(self, key: str, call: Call) -> str | None:
        """As it should be."""
        return self.right.canonical(key, call)

    def named(self, losses: StepLosses) -> Named:
        """Changed."""
        return self.change(self.right.named(losses), losses)


def keyed(change: Callable[[Named, StepLosses], Named]) -> Change:
    """Other losses under the keys, or other keys."""
    return lambda spec: wrap_in(spec, "keys", lambda right: OtherKeys(right, change))


def renamed(pattern: str, new: str, when: Callable[[StepLosses], bool] = lambda _step: True) -> Change:
    """A part of each key replaced; of two losses with one key the last one stays."""
    return keyed(
        lambda named, step: {re.sub(pattern, new, key) if when(step) else key: loss for key, loss in named.items()}
    )


def missing(part: str, when: Callable[[StepLosses], bool]) -> Change:
    """No keys with such a part."""
    return keyed(
        lambda named, step: {key: loss for key, loss in named.items() if not (when(step) and re.search(part, key))}
    )


def box_losses_in_half(right: Callable[..., ReturnedLosses], key: str, value: np.ndarray, dtype: str) -> ReturnedLosses:
    """The main box losses in the precision of the predictions."""
    if dtype in ("float16", "bfloat16") and re.fullmatch(r"loss_(bbox|giou)(_dn)?", key):
        return rounded(value, dtype), dtype
    return right(key, value, dtype)


KEYS = "loss specification, DETRLoss and RTDETRDetectionLoss: keys"
SCALAR = "loss specification, DETRLoss: every loss is a scalar of shape () in float32 or better"

INTERFACE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "rtdetr-empty-rank-hangs",
        "API",
        "A rank without targets had no denoising losses, so that ranks disagreed on the keys and hung. "
        "Right: the same keys, zero. Shows in a batch without targets.",
        "lyuwenyu/RT-DETR, issues 529 and 672, pull request 684",
        missing("_dn", lambda step: not step.targets),
    ),
    Mutant(
        "detrex-dn-zero-loss-wrong-key",
        "API",
        "Without denoising queries the zeros went by loss_ce_dn, and the losses otherwise by loss_class_dn. Right: the "
        "same keys. Shows without denoising queries.",
        "IDEA-Research/detrex, commit 2913d2a, pull request 36",
        renamed("class_dn", "ce_dn", lambda step: step.denoising is None),
    ),
    Mutant(
        "dfine-ddf-key-missing",
        "API",
        "A loss that came out as nothing was not reported, so that ranks disagreed on the keys. Right: the same keys, "
        "zero. Shows in a batch without targets.",
        "Peterande/D-FINE, commit 580a018",
        missing("bbox|giou", lambda step: not step.targets),
    ),
    Mutant(
        "plausible-no-denoising-keys",
        "API",
        "Without denoising queries there are no keys for them. Right: the same keys, zero. Shows without denoising "
        "queries.",
        KEYS,
        missing("_dn", lambda step: step.denoising is None),
    ),
    Mutant(
        "plausible-no-aux-keys-of-one-layer",
        "API",
        "With one layer there are no auxiliary keys. Right: the same keys, zero. Shows with one layer.",
        KEYS,
        missing("_aux", lambda step: not step.ordinary.auxiliary),
    ),
    Mutant(
        "plausible-main-denoising-keys-without-suffix",
        "API",
        "The main denoising losses go by the names of the ordinary ones, and overwrite them. Right: with _dn. Shows "
        "with denoising queries.",
        KEYS,
        renamed("(?<!_aux)_dn$", "", lambda step: step.denoising is not None),
    ),
    Mutant(
        "plausible-suffixes-exchanged",
        "API",
        "Auxiliary denoising losses end in _dn_aux. Right: in _aux_dn. Shows always.",
        KEYS,
        renamed("_aux_dn", "_dn_aux"),
    ),
    Mutant(
        "plausible-total-among-the-losses",
        "API",
        "The sum of all losses is one of them, and a trainer that adds them up counts them twice. Right: the parts "
        "alone. Shows always.",
        KEYS,
        keyed(lambda named, _step: {**named, "loss": sum(named.values())}),
    ),
    Mutant(
        "paddle-losses-of-shape-1",
        "API",
        "Losses had shape (1,). Right: (). Shows always.",
        "PaddlePaddle/PaddleDetection, DINOLoss",
        wrapped("returned", lambda right, key, value, dtype: right(key, value.reshape(1), dtype)),
    ),
    Mutant(
        "plausible-box-losses-in-half",
        "API",
        "The main box losses come in the precision of the predictions. Right: in float32 or better. Shows with "
        "float16.",
        SCALAR,
        wrapped("returned", box_losses_in_half),
    ),
    Mutant(
        "plausible-losses-in-single",
        "API",
        "Every loss is cast to float32, also that of float64 predictions, as a port does that calls .float() on all it "
        "is given. Right: a loss is as precise as its predictions. Shows with float64.",
        SCALAR,
        wrapped("returned", lambda _right, _key, value, _dtype: (rounded(value, "float32"), "float32")),
    ),
    Mutant(
        "plausible-integer-zeros",
        "API",
        "A loss of nothing is the integer 0. Right: in float32 or better. Shows without denoising queries.",
        SCALAR,
        wrapped("returned", lambda right, *loss: right(*loss) if loss[1].any() else (loss[1], "int64")),
    ),
)
