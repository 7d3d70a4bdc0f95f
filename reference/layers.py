"""Layers: which decoder layer is the main one, which are auxiliary, and how their losses add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Float

from detr_conformance.reference.tape import Array


class Layer(NamedTuple):
    """The predictions of one decoder layer.

    Attributes:
        boxes: in centre form.
        logits: one column for each class.
        further: predictions that extra terms read, by name, such as `masks`; images and queries come first.
    """

    boxes: Float[Array, "images queries 4"]
    logits: Float[Array, "images queries classes"]
    further: Mapping[str, Array] = MappingProxyType({})

    def map(self, change: Callable[[Array], Array]) -> Layer:
        """The same change made to each of its arrays."""
        further = {name: change(each) for name, each in self.further.items()}
        return Layer(change(self.boxes), change(self.logits), further)


@dataclass(frozen=True)
class Stack:
    """The layers that a plan is made for.

    Attributes:
        count: how many there are.
        is_denoising: they are those of denoising queries.
        has_denoising: the call has denoising queries.
    """

    count: int
    is_denoising: bool = False
    has_denoising: bool = False


Weights = Sequence[float]
"""How often each layer counts."""


def last(stack: Stack) -> Weights:
    """The last layer once."""
    return [0.0] * (stack.count - 1) + [1.0]


def all_but_last(stack: Stack) -> Weights:
    """Every layer before the last once."""
    return [1.0] * (stack.count - 1) + [0.0]


def every_layer(stack: Stack) -> Weights:
    """Each of them once."""
    return [1.0] * stack.count


def no_layer(stack: Stack) -> Weights:
    """None of them."""
    return [0.0] * stack.count


def as_given(layers: Sequence[Layer], is_denoising: bool) -> Sequence[Layer]:
    """All layers in the order in which they came."""
    return layers


def summed(losses: Sequence[Any]) -> Any:  # tracked arrays or variables
    """The sum, in order."""
    return reduce(add, losses)


@dataclass(frozen=True)
class LayerPlan:
    """What is made of the layers of one part of the loss.

    Attributes:
        arranged: the layers in the order of the plan; the flag says whether they are those of denoising queries.
        main: how often each layer counts in the main losses.
        auxiliary: how often each counts in the auxiliary losses.
        total: adds up layers.
        least: least number of layers of ordinary queries, for which the convention defines the loss.
        denoising: number of layers of denoising queries beside so many ordinary ones; None for any number.
        independent: the losses of a layer depend on the predictions of no other, unless a shared matching is asked for.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 3.2 (auxiliary decoding losses).
    """

    arranged: Callable[[Sequence[Layer], bool], Sequence[Layer]] = as_given
    main: Callable[[Stack], Weights] = last
    auxiliary: Callable[[Stack], Weights] = all_but_last
    total: Callable[[Sequence[Any]], Any] = summed
    least: int = 1
    denoising: Callable[[int], int] | None = None
    independent: bool = True
