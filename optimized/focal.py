"""Focal and varifocal loss of dense targets, as modules of their own.

The loss of a training step reads their options and does not call them: it never builds dense targets, see
`class_terms`. It calls those that a user has exchanged, see `by_parts`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from detr_conformance.optimized.backends.torch.fading import LINEAR_ABOVE, Fading
from detr_conformance.optimized.known_gradient import known_gradient
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.validation import check_device, check_floats, check_number, check_tensor

Terms = Float[Tensor, "images queries classes"]


class FocalLoss(nn.Module):
    """Cross-entropy that fades out on terms that are already right.

        FL(x, y) = a_t (1 - p_t)^gamma BCE(x, y)
        p_t = p y + (1 - p) (1 - y)         the probability given to the truth, p = sigmoid(x)
        a_t = alpha y + (1 - alpha) (1 - y) balances foreground and background; 1 where alpha <= 0

    Args:
        gamma: how fast a right answer fades, >= 0.
        alpha: share of the foreground, <= 1; at or below 0 there is no balancing.

    Raises:
        TypeError, ValueError: one of them is no such number.

    Reference: Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002, equation 5.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25) -> None:
        """Keep gamma and alpha."""
        super().__init__()
        self.gamma = check_number("gamma", gamma, least=0.0)
        self.alpha = check_number("alpha", alpha)

    def forward(self, pred: Terms, label: Terms) -> Float[Tensor, ""]:
        """Mean over the queries, summed over everything else (quirk: the caller multiplies by Q again).

        Args:
            pred: logits x.
            label: y, 1 for the target's class, else 0.

        Raises:
            TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        _check_terms(pred=pred, label=label)
        x, positive = pred.detach().to(arithmetic_dtype(pred)), label == 1
        terms, grad = Fading.like(x), torch.empty_like(x)
        # A positive term is the mirror image of a background term: FL(x, 1) / alpha = FL(-x, 0) / (1 - alpha).
        terms.compute(torch.where(positive, -x, x), self.gamma, 1.0, grad)
        balance = torch.ones_like(x)  # `where` of two Python numbers would round them to torch's default dtype
        if self.alpha > 0:
            balance.fill_(1 - self.alpha).masked_fill_(positive, self.alpha)
        signed = torch.where(positive, -balance, balance)
        return _mean_over_queries(pred, terms.terms(self.gamma) * balance, grad * signed)


class VarifocalLoss(nn.Module):
    """Cross-entropy against the IoU, where only the background is faded out.

        VFL(x, q, y) = w BCE(x, q),   w = alpha p^gamma (1 - y) + q,   p = sigmoid(x)

    The weight is differentiated through p, not through q.

    Args:
        gamma: how fast a right background fades, >= 0.
        alpha: weight of the background, >= 0.

    Raises:
        TypeError, ValueError: one of them is no such number.

    Reference: Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2. A matched query without overlap, q = 0, counts
    as background there; here its weight is 0.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.75) -> None:
        """Keep gamma and alpha."""
        super().__init__()
        self.gamma = check_number("gamma", gamma, least=0.0)
        self.alpha = check_number("alpha", alpha)

    def forward(self, pred_score: Terms, gt_score: Terms, label: Terms) -> Float[Tensor, ""]:
        """Mean over the queries, summed over everything else (quirk: the caller multiplies by Q again).

        Args:
            pred_score: logits x.
            gt_score: q, IoU where `label` is 1, else 0.
            label: y, 1 for the target's class, else 0.

        Raises:
            TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        _check_terms(pred_score=pred_score, gt_score=gt_score, label=label)
        dtype = arithmetic_dtype(pred_score)
        x, q, rest = pred_score.detach().to(dtype), gt_score.detach().to(dtype), 1 - label.to(dtype)
        p, entropy = torch.sigmoid(x), (1 - q) * x + F.softplus(-x, threshold=LINEAR_ABOVE)
        fading = self.alpha * p**self.gamma * rest
        grad = (fading + q) * (p - q) + self.gamma * fading * torch.sigmoid(-x) * entropy
        return _mean_over_queries(pred_score, (fading + q) * entropy, grad)


class OfClassLosses:
    """An option of a loss that its modules `fl` and `vfl` have: read where there is one of them, set on both."""

    def __set_name__(self, owner: type, name: str) -> None:
        """The name of the option."""
        self.name = name

    def __get__(self, loss: Any, owner: type) -> float:  # noqa: ANN401  # a loss, or None for its class
        """That of the varifocal loss, or else of the focal one."""
        parts = [] if loss is None else [part for part in (loss.vfl, loss.fl) if part is not None]
        if not parts:
            raise AttributeError(f"there is no {self.name}, as fl and vfl are None")
        value: float = getattr(parts[0], self.name)
        return value

    def __set__(self, loss: Any, value: float) -> None:  # noqa: ANN401  # likewise
        """Take effect at the next call, whichever of the two it uses."""
        for part in (loss.fl, loss.vfl):
            if part is not None:
                setattr(part, self.name, value)


def _check_terms(**terms: object) -> None:
    """Logits, and real numbers of the same shape for each of them."""
    (logits, pred), *others = terms.items()
    shape = tuple(check_floats(logits, pred).shape)
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"{logits} has shape {shape}, expected (images, queries, classes), at least one of each")
    for name, other in others:
        numbers = check_tensor(name, other)
        if numbers.is_complex():
            raise TypeError(f"{name} has dtype {numbers.dtype}, expected real numbers")
        if tuple(numbers.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(numbers.shape)}, expected {shape} as in {logits}")
        check_device(name, numbers, logits, check_floats(logits, pred).device)


def _mean_over_queries(pred: Terms, terms: Terms, grads: Terms) -> Float[Tensor, ""]:
    """Sum over images and classes of the mean over the queries, with the derivative known."""
    queries = pred.shape[1]
    return known_gradient(pred, terms.sum() / queries, grads / queries)
