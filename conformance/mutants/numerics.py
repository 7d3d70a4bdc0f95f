"""Mutants in precision, in extreme numbers, and in what becomes of numbers that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.interface import keyed
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import replace_in
from detr_conformance.reference.classification import truth
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, primitive


def in_single(x: Array) -> Array:
    """The numbers that float32 makes of these; the gradient is theirs."""
    numbers = np.asarray(plain(x))
    with np.errstate(all="ignore"):
        single = numbers.astype(np.float32).astype(np.float64)
        return x + np.where(single == numbers, 0.0, single - numbers)


@primitive(lambda x: saturated_sigmoid(x) * (1.0 - saturated_sigmoid(x)))
def saturated_sigmoid(x: Array) -> Array:
    """p as float32 has it, 0 or 1 for large logits, where its derivative is 0."""
    return in_single(1.0 / (1.0 + in_single(np.exp(-x))))


def saturating(x: Array, y: Array) -> Array:
    """-log(p_t), infinite where float32 has rounded p_t to 0, with a gradient of NaN."""
    p = saturated_sigmoid(x)
    return -np.log(np.where(y == 1, p, 1.0 - p))


def overflowing(x: Array, y: Array) -> Array:
    """log(1 + exp(x)) - x y, infinite in float32 beyond a logit of 88."""
    return np.log1p(in_single(np.exp(x))) - x * y


def clamped(x: Array, y: Array) -> Array:
    """-log(p_t) of a clamped probability: at most 16 for each logit."""
    return -np.log(np.minimum(np.maximum(truth(x, y), 1e-7), 1.0 - 1e-7))


def added_in_single(right: Callable[..., Any], losses: Sequence[Any]) -> Any:
    """The sum of several layers in float32."""
    return in_single(right(losses)) if len(losses) > 1 else right(losses)


def without_nan(named: dict[str, Any], _step: object) -> dict[str, Any]:
    """A loss that is NaN becomes 0, with a gradient of 0."""
    return {key: np.zeros(()) if np.isnan(plain(loss)) else loss for key, loss in named.items()}


def capped(named: dict[str, Any], _step: object) -> dict[str, Any]:
    """A loss beyond ten thousand becomes ten thousand."""
    return {key: np.full((), 1e4) if plain(loss) > 1e4 else loss for key, loss in named.items()}


STABLE = "loss specification, DETRLoss: BCE(x, y) of logits"

NUMERICS_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "rfdetr-log-of-saturated-sigmoid",
        "NUM",
        "Cross-entropy was written as -log(p) with p rounded to 0 or 1. Right: the log-sigmoid form. Shows "
        "beyond logits of 17 in float32.",
        "roboflow/rf-detr, pull request 138",
        lambda spec: replace_in(spec, "class_terms.focal.entropy", saturating),
    ),
    Mutant(
        "plausible-scores-in-float32",
        "NUM",
        "The target scores are kept in float32. Right: in the precision of the predictions. Shows with float64.",
        "loss specification, Bad input: predictions of float64 are good input",
        wrapped("score", lambda right, *boxes: in_single(right(*boxes))),
    ),
    Mutant(
        "plausible-sums-in-float32",
        "NUM",
        "The auxiliary losses are added up in float32. Right: in the precision of the predictions. Shows with float64.",
        "loss specification, Bad input: predictions of float64 are good input",
        wrapped("layers.total", added_in_single),
    ),
    Mutant(
        "plausible-cross-entropy-overflow",
        "NUM",
        "The cross-entropy is log(1 + exp(x)), which overflows beyond a logit of 88. Right: the stable form. Shows "
        "with large logits.",
        STABLE,
        lambda spec: replace_in(spec, "class_terms.focal.entropy", overflowing),
    ),
    Mutant(
        "plausible-probability-clamped",
        "NUM",
        "The probability is clamped to [1e-7, 1 - 1e-7] to keep its logarithm finite, and the loss of a wrong logit "
        "stops at 16. Right: the stable form. Shows with large logits.",
        STABLE,
        lambda spec: replace_in(spec, "class_terms.focal.entropy", clamped),
    ),
    Mutant(
        "dfine-losses-nan-to-zero",
        "NUM",
        "A loss that is NaN became 0. Right: NaN, for all to see. Shows with a NaN prediction.",
        "Peterande/D-FINE, the criterion's forward",
        keyed(without_nan),
    ),
    Mutant(
        "plausible-loss-capped",
        "NUM",
        "A loss beyond ten thousand is cut off, infinity included. Right: nothing is hidden. Shows with an infinite "
        "logit.",
        "loss specification, Non-finite predictions",
        keyed(capped),
    ),
)
