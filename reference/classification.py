"""Classification losses on logits: weighted cross-entropies, one term for each query and class.

Symbols used throughout: `x` a logit, `p = sigmoid(x)`, `y` 1 for the target's class and 0 otherwise, `q` the
target score, which is the IoU of prediction and target where y = 1 and 0 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.tape import Array, primitive, stop_gradient

Numbers = Float[Array, "*shape"]
Terms = Float[Array, "*batch queries classes"]


def _sigmoid_derivative(x: Numbers) -> Numbers:
    """p (1 - p)."""
    p = sigmoid(x)
    return p * (1.0 - p)


@primitive(_sigmoid_derivative)
def sigmoid(x: Numbers) -> Numbers:
    """1 / (1 + exp(-x)), evaluated so that exp never overflows."""
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def softplus(x: Numbers) -> Numbers:
    """The softplus log(1 + exp(x)), evaluated so that exp never overflows; minus log p is that of -x."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _entropy_by_logit(x: Numbers, q: Numbers) -> Numbers:
    """p - q.

    Libraries round p before they subtract q, and some take p as the small difference of two numbers near 1: it is
    written so here too, for the sake of its error bound.
    """
    return (1.0 - sigmoid(-x)) - q


def _entropy_by_score(x: Numbers, q: Numbers) -> Numbers:
    """log(1 - p) - log p, which is -x."""
    return -x


@primitive(_entropy_by_logit, _entropy_by_score)
def binary_cross_entropy(x: Numbers, q: Numbers) -> Numbers:
    """Cross-entropy of a logit against a target score, term by term.

        BCE(x, q) = -q log p - (1 - q) log(1 - p) = x - q x - log p

    Range [0, inf). Libraries sum these terms in several orders, and some lose all digits of a small result: written
    out, they give the bound that covers each.
    """
    scored = np.where(q == 0, 0.0, q * x)  # not 0 times infinity where nothing is scored
    return x - scored + softplus(-x)


def truth(x: Numbers, y: Numbers) -> Numbers:
    """p_t, the probability that is given to what is true: p where y = 1, else 1 - p."""
    return np.where(y == 1, sigmoid(x), sigmoid(-x))


def cross_entropy(x: Terms, y: Terms) -> Terms:
    """Cross-entropy of all logits of a query against its class: -y log softmax(x), term by term.

    Range [0, inf).
    """
    largest = plain(x).max(axis=-1, keepdims=True)  # so that exp never overflows
    everything = np.log(np.sum(np.exp(x - largest), axis=-1))[..., None]
    return y * (everything - (x - largest))


def weighted_entropy(term: ClassTerm, x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """weight(x, y, q) entropy(x, target(x, y, q)), query by query and class by class."""
    entropy = term.entropy(x, term.target(x, y, q, config))
    return entropy if term.weight is None else term.weight(x, y, q, config) * entropy


@dataclass(frozen=True)
class Probe:
    """Where the target score of a matched query can be read off its loss.

    Attributes:
        logit: the logit at which it can.
        score: from the loss of the query's only class, before any gain, to the score.
        slope: by how much the loss changes with the score there.
    """

    logit: float
    score: Callable[[float], float]
    slope: float


@dataclass(frozen=True)
class ClassTerm:
    """One classification loss: weight(x, y, q) entropy(x, target(x, y, q)) for every query and column.

    Attributes:
        target: what the cross-entropy is held against, from x, y, q and the options.
        weight: of each term, from x, y, q and the options gamma and alpha; None for 1.
        entropy: the cross-entropy.
        terms: puts the three together.
        closed_form: the loss of one query, from its logits, the class of its target (None for background), its IoU and
            the options. Rules hold ports to it.
        reads_score: whether the IoU enters.
        reads_options: whether gamma and alpha do.
        straight_in_alpha: whether the loss is a straight line in alpha, for alpha above 0.
        any_gamma: whether gamma may be 0 too; otherwise it is above 0.
        probe: where the target score can be read; None if nowhere.
    """

    target: Callable[[Terms, Terms, Terms, LossConfig], Terms]
    closed_form: Callable[[np.ndarray, int | None, float, LossConfig], float]
    weight: Callable[[Terms, Terms, Terms, LossConfig], Terms] | None = None
    entropy: Callable[[Terms, Terms], Terms] = binary_cross_entropy
    terms: Callable[[ClassTerm, Terms, Terms, Terms, LossConfig], Terms] = weighted_entropy
    reads_score: bool = False
    reads_options: bool = True
    straight_in_alpha: bool = False
    any_gamma: bool = True
    probe: Probe | None = None


def label(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """1 for the target's class, else 0."""
    return y


def score(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """The IoU for the target's class, else 0."""
    return q


def matchability(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """q^gamma for the target's class, else 0."""
    return q**config.gamma * y


LEAST_TARGET = 0.01
"""The target of a matched query in IA-BCE, however bad its box."""


def iou_aware(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """max(p^alpha q^(1 - alpha), 0.01) for the target's class, else 0. A constant."""
    both = sigmoid(stop_gradient(x)) ** config.alpha * q ** (1.0 - config.alpha)
    return np.maximum(both, LEAST_TARGET) * y


def balance(y: Terms, alpha: float) -> Terms:
    """a_t: alpha for the foreground, 1 - alpha for the background; 1 for both where alpha <= 0."""
    return alpha * y + (1.0 - alpha) * (1.0 - y) if alpha > 0 else np.ones_like(y)


def focal_weight(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """a_t (1 - p_t)^gamma: terms that are right fade out."""
    return balance(y, config.alpha) * (1.0 - truth(x, y)) ** config.gamma


def varifocal_weight(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """alpha p^gamma (1 - y) + q: only the background fades out."""
    return config.alpha * sigmoid(x) ** config.gamma * (1.0 - y) + q


def detached_varifocal_weight(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """The same as a constant: no gradient flows through p."""
    return varifocal_weight(stop_gradient(x), y, q, config)


def unmatched_fade(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """p^gamma (1 - y) + y: the background fades out."""
    return sigmoid(x) ** config.gamma * (1.0 - y) + y


def detached_unmatched_fade(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """The same as a constant: no gradient flows through p."""
    return unmatched_fade(stop_gradient(x), y, q, config)


NO_OBJECT_WEIGHT = 0.1
"""What a query without a target counts in DETR's classification loss; one with a target counts 1."""


def rare_no_object(x: Terms, y: Terms, q: Terms, config: LossConfig) -> Terms:
    """0.1 in the last column, that of no object, else 1."""
    return np.where(np.arange(y.shape[-1]) == config.nc, NO_OBJECT_WEIGHT, np.ones_like(y))


def class_by_class(
    matched: Callable[[float, float, LossConfig], float], background: Callable[[np.ndarray, LossConfig], np.ndarray]
) -> Callable[[np.ndarray, int | None, float, LossConfig], float]:
    """The closed form of a loss in which every class counts for itself.

    Args:
        matched: for the class of the target, from its logit and the IoU.
        background: for the logits of all other classes.
    """

    def closed_form(logits: np.ndarray, target: int | None, iou: float, config: LossConfig) -> float:
        if target is None:
            return float(background(logits, config).sum())
        others = background(np.delete(logits, target), config)
        return matched(float(logits[target]), iou, config) + float(others.sum())

    return closed_form


def _softmax_closed_form(logits: np.ndarray, target: int | None, _iou: float, _config: LossConfig) -> float:
    weight, column = (NO_OBJECT_WEIGHT, -1) if target is None else (1.0, target)
    return weight * float(np.logaddexp.reduce(logits) - logits[column])


def _minus_log_p(x: float) -> float:
    return math.log1p(math.exp(-x)) if x > -700 else -x


def _p(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


FOCAL = ClassTerm(
    weight=focal_weight,
    target=label,
    closed_form=class_by_class(
        matched=lambda x, _iou, c: c.alpha * math.exp(-c.gamma * _minus_log_p(-x)) * _minus_log_p(x),
        background=lambda x, c: (1.0 - c.alpha) * _p(x) ** c.gamma * np.logaddexp(0.0, x),
    ),
    straight_in_alpha=True,
)
"""FL(x, y) = a_t (1 - p_t)^gamma BCE(x, y).

Reference: Lin et al., Focal Loss, arXiv 1708.02002, equation 5.
"""

VARIFOCAL = ClassTerm(
    weight=varifocal_weight,
    target=score,
    closed_form=class_by_class(
        matched=lambda x, iou, _c: iou * (iou * _minus_log_p(x) + (1.0 - iou) * _minus_log_p(-x)),
        background=lambda x, c: c.alpha * _p(x) ** c.gamma * np.logaddexp(0.0, x),
    ),
    reads_score=True,
    straight_in_alpha=True,
    probe=Probe(0.0, lambda loss: loss / math.log(2.0), math.log(2.0)),
)
"""VFL(x, q, y) = (alpha p^gamma (1 - y) + q) BCE(x, q), differentiated through p and not through q.

Reference: Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2. A matched query without overlap, q = 0, counts as
background there; here its weight is 0.
"""

SCORE_ENTROPY = ClassTerm(
    target=score,
    closed_form=class_by_class(
        matched=lambda x, iou, _c: iou * _minus_log_p(x) + (1.0 - iou) * _minus_log_p(-x),
        background=lambda x, _c: np.logaddexp(0.0, x),
    ),
    reads_score=True,
    reads_options=False,
    probe=Probe(2.0, lambda loss: 1.0 - (loss - _minus_log_p(2.0)) / 2.0, 2.0),
)
"""BCE(x, q), as Ultralytics' DETRLoss without use_fl."""

LABEL_ENTROPY = ClassTerm(
    target=label,
    closed_form=class_by_class(
        matched=lambda x, _iou, _c: _minus_log_p(x),
        background=lambda x, _c: np.logaddexp(0.0, x),
    ),
    reads_options=False,
)
"""BCE(x, y), as lyuwenyu/RT-DETR's loss_labels_bce."""

SOFTMAX = ClassTerm(
    weight=rare_no_object,
    target=label,
    entropy=cross_entropy,
    closed_form=_softmax_closed_form,
    reads_options=False,
)
"""w (-log softmax(x)) of the query's class among C + 1, the last of which is "no object"; w is 0.1 there, else 1.

Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1 and appendix A.4.
"""

MATCHABILITY_AWARE = ClassTerm(
    weight=detached_unmatched_fade,
    target=matchability,
    closed_form=class_by_class(
        matched=lambda x, iou, c: iou**c.gamma * _minus_log_p(x) + (1.0 - iou**c.gamma) * _minus_log_p(-x),
        background=lambda x, c: _p(x) ** c.gamma * np.logaddexp(0.0, x),
    ),
    reads_score=True,
    any_gamma=False,
)
"""MAL(x, q, y) = (p^gamma (1 - y) + y) BCE(x, q^gamma), the weight a constant.

Reference: Huang et al., DEIM, arXiv 2412.04234, section 3.3.
"""


def _iou_aware_target(x: float, iou: float, alpha: float) -> float:
    return max(math.exp(-alpha * _minus_log_p(x)) * iou ** (1.0 - alpha), LEAST_TARGET)


IOU_AWARE = ClassTerm(
    weight=unmatched_fade,
    target=iou_aware,
    closed_form=class_by_class(
        matched=lambda x, iou, c: _minus_log_p(x) + (1.0 - _iou_aware_target(x, iou, c.alpha)) * x,
        background=lambda x, c: _p(x) ** c.gamma * np.logaddexp(0.0, x),
    ),
    reads_score=True,
)
"""IA-BCE: BCE(x, t) of a matched query with t = max(p^alpha q^(1 - alpha), 0.01), a constant; p^gamma BCE(x, 0) of the
background, differentiated through p.

Reference: Chen et al., LW-DETR, arXiv 2406.03459, section 3.3; Cai et al., Align-DETR, arXiv 2304.07527.
"""
