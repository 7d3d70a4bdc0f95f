"""What a loss function of the reference returns: the value, its gradients, and how well both can be known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.rounding import Arithmetic, Tracked, magnitude, track
from detr_conformance.reference.tape import Variable, gradients, stop_gradient, variable

Gradients = Mapping[str, Float[Tracked, "..."]]
Leaves = Mapping[str, Sequence[Any]]
"""The inputs by which losses are differentiated, by name; each a row of layers."""


class Loss:
    """One scalar loss with its gradients.

    Attributes:
        value: the loss, shape (). Its error bound is `magnitude`.
    """

    def __init__(self, value: Float[Tracked, ""], differentiate: Callable[[], Gradients] = dict) -> None:
        """`differentiate` is called when the gradients are first asked for."""
        self.value = value
        self._differentiate = differentiate

    @cached_property
    def gradients(self) -> Gradients:
        """Derivative of the value with respect to each input it depends on, by its name and in its shape.

        A name that is absent means that the derivative is 0 everywhere. Each entry carries its own error bound
        (`rounding.magnitude(gradient)`), infinite where the derivative is left open.
        """
        return self._differentiate()

    def map_gradients(self, change: Callable[[Tracked], Tracked]) -> Loss:
        """The same value with every gradient passed through a function, such as one that selects a layer."""
        return Loss(self.value, lambda: {name: change(each) for name, each in self.gradients.items()})

    def __mul__(self, factor: float) -> Loss:
        """Value and gradients times a number."""
        scaled = self.map_gradients(lambda grad: cast("Tracked", grad * factor))
        return Loss(cast("Tracked", self.value * factor), lambda: scaled.gradients)

    def renamed(self, names: Mapping[str, str]) -> Loss:
        """The same loss, its inputs by other names."""
        return Loss(self.value, lambda: {names[name]: each for name, each in self.gradients.items()})

    def __float__(self) -> float:
        """The value as a Python float."""
        return float(self.value)

    @property
    def magnitude(self) -> float:
        """Bound on the value's rounding error in units of eps, from the absolute terms that make it up."""
        return float(magnitude(self.value))


Losses = dict[str, Loss]
"""Losses by their key, such as `loss_class_aux_dn`."""


def losses_of(
    formula: Callable[[Leaves], Mapping[str, Any]],
    inputs: Mapping[str, np.ndarray],
    arithmetic: Arithmetic,
    bounded: bool = True,
) -> Losses:
    """The losses that a formula makes of its inputs.

    It is evaluated twice: for the values, and on the tape if anybody asks for a gradient.

    Args:
        formula: from the inputs, each a row of layers, to tracked arrays or variables by key.
        inputs: arrays of which the first axis is that of layers.
        arithmetic: floating-point format of the port under test.
        bounded: whether their values come with error bounds; otherwise each bound is NaN, so that nobody compares
            with it by mistake.
    """
    start = partial(track, arithmetic=arithmetic) if bounded else partial(np.array, dtype=np.float64)
    with np.errstate(all="ignore"):
        values = formula({name: [start(layer) for layer in array] for name, array in inputs.items()})

    @lru_cache(maxsize=1)
    def taped() -> Mapping[str, Gradients]:
        leaves = {name: [variable(layer, arithmetic) for layer in array] for name, array in inputs.items()}
        return {key: _gradients(output, leaves) for key, output in formula(leaves).items()}

    def loss(key: str) -> Loss:
        value = values[key] if bounded else Tracked(values[key], np.full((), np.nan), arithmetic)
        return Loss(track(value, arithmetic), lambda: taped()[key])

    return {key: loss(key) for key in values}


def sum_over_layers(losses: Sequence[Loss], arithmetic: Arithmetic) -> Loss:
    """The sum of one loss over layers; its gradients are those of the layers, stacked. 0 over none."""

    def stacked() -> Gradients:
        names = dict.fromkeys(name for loss in losses for name in loss.gradients)
        return {name: _stacked_gradients(losses, name) for name in names}

    return Loss(sum((loss.value for loss in losses), start=track(np.zeros(()), arithmetic)), stacked)


def _stacked_gradients(losses: Sequence[Loss], name: str) -> Tracked:
    known = next(loss.gradients[name] for loss in losses if name in loss.gradients)
    return _stacked([loss.gradients.get(name, np.zeros_like(known)) for loss in losses])


def _gradients(output: Any, leaves: Mapping[str, Sequence[Variable]]) -> Gradients:
    """The derivatives of one loss, layers stacked; without those with respect to inputs that it does not depend on."""
    if not isinstance(output, Variable):
        return {}
    flat = [leaf for layers in leaves.values() for leaf in layers]
    found = iter(gradients(output, flat))
    by_name = {name: [next(found) for _ in layers] for name, layers in leaves.items()}
    return {
        name: _stacked([_zeros(leaf) if grad is None else grad for leaf, grad in zip(leaves[name], grads, strict=True)])
        for name, grads in by_name.items()
        if any(grad is not None for grad in grads)
    }


def _stacked(layers: Sequence[Tracked]) -> Tracked:
    return cast("Tracked", np.stack(layers))  # of tracked arrays, although NumPy's types deny it


def _zeros(leaf: Variable) -> Tracked:
    return np.zeros_like(stop_gradient(leaf))
