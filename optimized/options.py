"""What the parts of the loss need to know of its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

IOU_EPS = 1e-7
"""Added to the union and to the enclosing area, so that two boxes without area divide by something."""

Weight = float | int | Tensor
"""A factor known to the host, or one that lies on the device (0-dimensional) and is never read from there."""

Factors = tuple[Weight, Weight]
"""Of the last layer, and of the others: one for all of these, or an axis with one for each."""

UNSCALED: Factors = (1.0, 1.0)


@dataclass(frozen=True)
class CostOptions:
    """How the matching cost is composed; see `HungarianMatcher`.

    `eps` is added to the areas of union and hull, and `non_finite` is what a cost that is not finite counts as.
    """

    class_gain: float
    bbox_gain: float
    giou_gain: float
    use_fl: bool
    alpha: float
    gamma: float
    eps: float = IOU_EPS
    non_finite: float = 0.0


@dataclass(frozen=True)
class ClassOptions:
    """One layer's classification loss in two sums: over the background, and over the matched entries.

        background_weight sum p^gamma softplus(x)       every entry that is not a target's class
        foreground_weight sum positive(x, q)            the target's class of each matched query

        positive = (1 - p)^gamma softplus(-x)           kind "focal"
                 = q BCE(x, q)                          kind "varifocal"
                 = BCE(x, q)                            kind "bce", where gamma is 0 as well

    since focal, varifocal loss and cross-entropy agree on the background but for a factor and the exponent. Where the
    weight is not live, p^gamma of the background is a constant: no gradient flows through it.
    """

    kind: str
    gamma: float
    background_weight: Weight
    foreground_weight: Weight
    is_weight_live: bool = True
