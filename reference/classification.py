"""Classification losses: binary cross-entropy, focal loss and varifocal loss, on logits.

Symbols used throughout: `x` a logit, `p = sigmoid(x)`, `y` 1 for the target's class and 0 otherwise, `q` the
target score, which is the IoU of prediction and target where y = 1 and 0 elsewhere. Every class of every query
is one term of its own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.loss_value import Loss, loss_of
from detr_conformance.reference.rounding import track

Terms = Float[np.ndarray, "*batch queries classes"]


def sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """1 / (1 + exp(-x)), evaluated so that exp never overflows."""
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def binary_cross_entropy(x: Float[np.ndarray, "*shape"], q: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Cross-entropy of a logit against a target score, term by term.

        BCE(x, q) = -q log p - (1 - q) log(1 - p) = (1 - q) x - log p

    Range [0, inf). The second form is the one that PyTorch evaluates; far below 0 it is the small difference of two
    large terms, which its error bound has to show.
    """
    minus_log_p = np.maximum(-x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return (1.0 - q) * x + minus_log_p


def cross_entropy_slope(x: Float[np.ndarray, "*shape"], q: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Derivative of the cross-entropy by the logit, p - q.

    Automatic differentiation of the second form above takes p as the small difference of two numbers near 1. It is
    written so here too, for the sake of its error bound.
    """
    return 1.0 - sigmoid(-x) - q


class FocalLoss:
    """Cross-entropy that fades out on terms that are already right.

        FL(x, y) = a_t (1 - p_t)^gamma BCE(x, y)
        p_t = p y + (1 - p) (1 - y)         the probability given to the truth
        a_t = alpha y + (1 - alpha) (1 - y) balances foreground and background; 1 where alpha <= 0

    Args:
        gamma: how fast a right answer fades, >= 0.
        alpha: share of the foreground, <= 1; at or below 0 there is no balancing.

    Reference: Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002, equation 5.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25) -> None:
        """Keep gamma and alpha."""
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, pred: Terms, label: Terms) -> Loss:
        """Mean over the queries, summed over everything else.  # quirk: the caller multiplies by Q again.

        Args:
            pred: logits.
            label: 1 for the target's class, else 0.

        Returns:
            The loss and its gradient by `pred`.
        """
        logits = track(pred)
        return mean_over_queries(self.terms(logits, label), self.slopes(logits, label))

    def terms(self, x: Terms, y: Terms) -> Terms:
        """FL(x, y), term by term."""
        return self._balance(y) * (1.0 - self._truth(x, y)) ** self.gamma * binary_cross_entropy(x, y)

    def slopes(self, x: Terms, y: Terms) -> Terms:
        """Derivative of each term by its logit.

            dFL/dx = (1 - 2 y) a_t (1 - p_t)^gamma (1 - p_t + gamma p_t BCE)

        by dp_t/dx = (2 y - 1) p_t (1 - p_t).
        """
        truth = self._truth(x, y)
        steepness = 1.0 - truth + self.gamma * truth * binary_cross_entropy(x, y)
        return self._balance(y) * (1.0 - 2.0 * y) * (1.0 - truth) ** self.gamma * steepness

    def _truth(self, x: Terms, y: Terms) -> Terms:
        """p_t; of the two sigmoids the one that does not round 1 - p away."""
        return np.where(y == 1, sigmoid(x), sigmoid(-x))

    def _balance(self, y: Terms) -> Terms:
        """a_t."""
        return self.alpha * y + (1.0 - self.alpha) * (1.0 - y) if self.alpha > 0 else np.ones_like(y)


class VarifocalLoss:
    """Cross-entropy against the IoU, where only the background is faded out.

        VFL(x, q, y) = w BCE(x, q),   w = alpha p^gamma (1 - y) + q

    The weight is differentiated through p, not through q.

    Args:
        gamma: how fast a right background fades, >= 0.
        alpha: weight of the background, >= 0.

    Reference: Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2. A matched query without overlap, q = 0,
    counts as background there; here its weight is 0.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.75) -> None:
        """Keep gamma and alpha."""
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, pred_score: Terms, gt_score: Terms, label: Terms) -> Loss:
        """Mean over the queries, summed over everything else.  # quirk: the caller multiplies by Q again.

        Args:
            pred_score: logits.
            gt_score: IoU where `label` is 1, else 0.
            label: 1 for the target's class, else 0.

        Returns:
            The loss and its gradient by `pred_score`.
        """
        logits = track(pred_score)
        return mean_over_queries(self.terms(logits, gt_score, label), self.slopes(logits, gt_score, label))

    def terms(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """VFL(x, q, y), term by term."""
        return self._weight(x, q, y) * binary_cross_entropy(x, q)

    def slopes(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """Derivative of each term by its logit: w (p - q) + w' BCE(x, q)."""
        by_entropy = self._weight(x, q, y) * cross_entropy_slope(x, q)
        return by_entropy + self._weight_slope(x, y) * binary_cross_entropy(x, q)

    def _weight(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """w."""
        return self.alpha * sigmoid(x) ** self.gamma * (1.0 - y) + q

    def _weight_slope(self, x: Terms, y: Terms) -> Terms:
        """w' = alpha gamma p^gamma (1 - p) (1 - y)."""
        return self.alpha * self.gamma * sigmoid(x) ** self.gamma * sigmoid(-x) * (1.0 - y)


def mean_over_queries(terms: Terms, slopes: Terms) -> Loss:
    """Terms averaged over the queries and summed over images and classes, with the gradient by the logits."""
    queries = terms.shape[-2]
    return loss_of(np.sum(terms) / queries, {"pred_scores": slopes / queries})
