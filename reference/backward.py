"""Backward passes: a training step differentiates one weighted sum of losses, and adds to what has accumulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GradientsByKey = Mapping[str, Mapping[str, Any]]
"""The gradient of each loss with respect to each input that it depends on."""
Weights = Mapping[str, float]
"""What each loss counts in a weighted sum."""


def accumulated(grads: GradientsByKey, passes: Sequence[Weights]) -> list[dict[str, Any]]:
    """What has accumulated in the gradient of each input after each of several backward passes through one graph.

        after pass r:  sum over passes p <= r and losses k of weight_pk * dL_k/dx

    Args:
        grads: of the losses, taken one by one.
        passes: the weights of the losses in each pass.
    """
    total: dict[str, Any] = {}
    found = []
    for weights in passes:
        for key, weight in weights.items():
            for name, grad in grads[key].items():
                part = grad * weight
                total[name] = total[name] + part if name in total else part
        found.append(dict(total))
    return found
