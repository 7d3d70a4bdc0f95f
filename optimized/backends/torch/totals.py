"""The losses of all layers out of their terms, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.options import Weight


class LayerLosses(NamedTuple):
    """Each loss of the last layer, and summed over the others."""

    cls: Float[Tensor, ""]
    bbox: Float[Tensor, ""]
    giou: Float[Tensor, ""]
    cls_aux: Float[Tensor, ""]
    bbox_aux: Float[Tensor, ""]
    giou_aux: Float[Tensor, ""]


class LossesOfLayer(NamedTuple):
    """Each loss of a layer, or with an axis of layers, of all."""

    cls: Float[Tensor, "*layers"]
    bbox: Float[Tensor, "*layers"]
    giou: Float[Tensor, "*layers"]


def totals(
    class_sums: Float[Tensor, "layers class_parts"],
    distance: Float[Tensor, "layers pair_parts"],
    apart: Float[Tensor, "layers pair_parts"],
    weights: tuple[Weight, Weight],
) -> LayerLosses:
    """Add up what each layer consists of, and the layers before the last.

    Args:
        class_sums: adds up, in each row, to the weighted classification loss of a layer.
        distance: adds up, in each row, to the L1 loss before its weight.
        apart: adds up, in each row, to the GIoU loss before its weight.
        weights: of the L1 and of the GIoU loss.
    """
    losses = of_layers(class_sums, distance, apart, weights)
    # Copies: a caller may write into a loss, which torch does not allow for one of several views.
    return LayerLosses(*(each[-1].clone() for each in losses), *(each[:-1].sum() for each in losses))


def of_layers(
    class_sums: Float[Tensor, "layers class_parts"],
    distance: Float[Tensor, "layers pair_parts"],
    apart: Float[Tensor, "layers pair_parts"],
    weights: tuple[Weight, Weight],
) -> LossesOfLayer:
    """Add up what each layer consists of; arguments as in `totals`."""
    return LossesOfLayer(class_sums.sum(1), distance.sum(1) * weights[0], apart.sum(1) * weights[1])
