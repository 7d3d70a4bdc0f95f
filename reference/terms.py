"""Extra terms: losses beside those of classes and boxes, such as the losses of masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from detr_conformance.reference.layers import Layer, Stack, Weights, every_layer, no_layer
from detr_conformance.reference.matcher import Matching, Targets
from detr_conformance.reference.normaliser import Normaliser, per_matched_pair
from detr_conformance.reference.tape import Array


class TermInputs(NamedTuple):
    """What an extra term of one layer is computed of.

    Attributes:
        layer: the predictions of this layer.
        last: those of the last layer of the same stack; a term that teaches from them detaches them.
        place: the number of this layer.
        pairs: who answers for which target, image by image.
        targets: the ground truths, boxes as the losses read them.
        constants: what comes with a call beside predictions, by name: see `Inputs.constants`.
        matched_and_others: how many ordinary queries of the main layer are in pairs of the box losses, and how many are
            not.
    """

    layer: Layer
    last: Layer
    place: int
    pairs: Sequence[Matching]
    targets: Targets
    constants: Mapping[str, Any] = MappingProxyType({})
    matched_and_others: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Term:
    """A loss beside those of classes and boxes: a sum over a layer, divided by its normaliser, times its gain.

    Attributes:
        inputs: names of the predictions that it is computed of, as in `Layer.further`; a call that comes without them
            has no such loss.
        needs: the capability that a port with this loss declares.
        total: the sum over the pairs of one layer; with `is_mean` a mean over its queries.
        gain: its weight, where the options of the loss name none.
        normaliser: what the sum is divided by.
        layers: which layers of a stack have it: 1 for those, 0 for the others.
        optional: the layers in which it is 0 by construction, such as DDF in the last layer, which would teach itself,
            so that its key may be left out; 1 for those, 0 for the others.
        is_mean: it is a mean over queries, so that a batch given twice has the same loss.
        pairs: whether it is about the pairs of the classification loss or about those of the box losses.
    """

    inputs: tuple[str, ...]
    needs: str
    total: Callable[[TermInputs], Array]
    gain: float = 1.0
    normaliser: Normaliser = per_matched_pair
    layers: Callable[[Stack], Weights] = every_layer
    optional: Callable[[Stack], Weights] = no_layer
    is_mean: bool = False
    pairs: Literal["classes", "boxes"] = "boxes"
