"""What a loss function of the reference returns: the value, its gradients, and how well both can be known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.rounding import Tracked, magnitude, track


@dataclass(frozen=True)
class Loss:
    """One scalar loss with its closed-form gradient.

    Attributes:
        value: the loss, shape (). Its error bound is `magnitude`.
        gradients: derivative of the value by each input it depends on, by the input's name and in the input's
            shape. A name that is absent means that the derivative is 0 everywhere. Each entry carries its own
            error bound (`rounding.magnitude(gradient)`), infinite where the derivative is left open.
    """

    value: Float[Tracked, ""]
    gradients: Mapping[str, Float[Tracked, "..."]] = field(default_factory=dict)

    def __float__(self) -> float:
        """The value as a Python float."""
        return float(self.value)

    @property
    def magnitude(self) -> float:
        """Bound on the value's rounding error in units of eps, from the absolute terms that make it up."""
        return float(magnitude(self.value))

    def __mul__(self, factor: float | int) -> Loss:
        """The loss times a number, gradients included."""
        return loss_of(self.value * factor, {name: each * factor for name, each in self.gradients.items()})

    def __truediv__(self, divisor: float | int) -> Loss:
        """The loss divided by a number, gradients included."""
        return loss_of(self.value / divisor, {name: each / divisor for name, each in self.gradients.items()})

    def __add__(self, other: Loss) -> Loss:
        """The sum of two losses and of their gradients."""
        gradients: dict[str, np.ndarray] = dict(self.gradients)
        for name, each in other.gradients.items():
            gradients[name] = gradients[name] + each if name in gradients else each
        return loss_of(self.value + other.value, gradients)

    def map_gradients(self, change: Callable[[Tracked], Tracked]) -> Loss:
        """The same value with every gradient passed through a function, such as one that moves it into place."""
        return Loss(self.value, {name: change(each) for name, each in self.gradients.items()})

    def rename_gradients(self, names: Mapping[str, str]) -> Loss:
        """The same loss as a function of inputs that go by other names."""
        return Loss(self.value, {names[name]: each for name, each in self.gradients.items()})


Losses = dict[str, Loss]
"""Losses by their key, such as `loss_class_aux_dn`."""


def loss_of(value: Float[np.ndarray, ""] | np.float64, gradients: Mapping[str, Float[np.ndarray, "..."]]) -> Loss:
    """A loss from what formulas return for tracked arrays: tracked arrays, although NumPy's types deny it."""
    return Loss(cast("Tracked", value), {name: cast("Tracked", each) for name, each in gradients.items()})


def zero_loss() -> Loss:
    """The loss of nothing: 0, and no gradient."""
    return Loss(track(np.zeros(())))
