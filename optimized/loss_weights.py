"""What each loss counts: its gain, divided by the normaliser."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from detr_conformance.optimized.focal import FocalLoss, VarifocalLoss
from detr_conformance.optimized.normaliser import Normaliser
from detr_conformance.optimized.options import ClassOptions, Weight

Gains = Mapping[str, Weight]
"""Of each term a number, or a tensor, which may be learnt."""


def gain_inside(gains: Gains, term: str) -> float:
    """The gain of a term inside of what has its derivatives in closed form; a tensor comes after, see `gained`."""
    gain = gains[term]
    return 1.0 if isinstance(gain, Tensor) else gain


def gained(gains: Gains, term: str, loss: Tensor) -> Tensor:
    """The loss times a gain that is a tensor, which may be learnt, and lie on the device."""
    gain = gains[term]
    return loss * gain if isinstance(gain, Tensor) else loss


def mask_weights(gains: Gains, normaliser: Normaliser) -> tuple[Weight, Weight]:
    """Of the focal and of the dice loss of masks."""
    return normaliser.per_pair(gain_inside(gains, "mask")), normaliser.per_pair(gain_inside(gains, "dice"))


def box_weights(gains: Gains, normaliser: Normaliser) -> tuple[Weight, Weight]:
    """Of the L1 and of the GIoU loss."""
    return normaliser.per_pair(gain_inside(gains, "bbox")), normaliser.per_pair(gain_inside(gains, "giou"))


def class_options(
    fl: FocalLoss | None, vfl: VarifocalLoss | None, gains: Gains, normaliser: Normaliser, queries: int
) -> ClassOptions:
    """The classification loss with its weights; see `DETRLoss._get_loss_class`.

    Args:
        fl: the focal loss; None: cross-entropy.
        vfl: the varifocal loss, where it is used.
        gains: of the terms.
        normaliser: what the losses of pairs are divided by.
        queries: of each image.
    """
    gain = gain_inside(gains, "class")
    if fl is None:
        # quirk: by the queries, not by the pairs. The merged batch of all processes has as many queries an image,
        # so the mean of their losses has to be made its sum again.
        weight = gain * normaliser.processes / queries
        return ClassOptions("bce", 0.0, weight, weight)
    alpha = fl.alpha
    rest, foreground = (1 - alpha, alpha) if alpha > 0 else (1.0, 1.0)
    if vfl is None:
        weights = (normaliser.per_pair(gain * rest), normaliser.per_pair(gain * foreground))
        return ClassOptions("focal", fl.gamma, *weights)
    # quirk: without a single pair the varifocal loss gives way to the focal one, which differs in this factor.
    background = normaliser.per_pair(gain) * normaliser.if_any(vfl.alpha, rest)
    gamma = normaliser.choose(vfl.gamma, fl.gamma)
    return ClassOptions("varifocal", gamma, background, normaliser.per_pair(gain))
