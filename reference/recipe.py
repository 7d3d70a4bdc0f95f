"""Recipes: the options that a member of the family is trained with, as its authors published them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
    """An option of a recipe.

    Attributes:
        value: a number, or the gains by term.
        link: the configuration, or the paper and its section.
    """

    value: Any
    link: str


OPTIONS = {
    "gamma": "exponent of the classification loss",
    "alpha": "balance of the classification loss",
    "loss_gain": "gains of the losses, by term",
    "cost_gain": "gains of the matcher, by term",
    "cost_alpha": "balance of the focal class cost",
    "cost_gamma": "exponent of the focal class cost",
}
"""What a recipe may say, each with its meaning."""

Recipe = Mapping[str, Mapping[str, Published]]
"""For each classification loss the options that are published; what is not there, nobody has published."""


def published(link: str, **options: Any) -> dict[str, Published]:
    """Options that one configuration sets."""
    return {name: Published(value, link) for name, value in options.items()}


def gains(of_class: float, bbox: float = 5.0, giou: float = 2.0) -> dict[str, float]:
    """Gains of losses or costs by term."""
    return {"class": of_class, "bbox": bbox, "giou": giou}


def flattened(options: Mapping[str, Any]) -> dict[str, float]:
    """Every number of these options by its name; gains term by term."""
    flat: dict[str, float] = {}
    for name, value in options.items():
        by_term = isinstance(value, Mapping)
        flat |= {f"{name}[{term!r}]": gain for term, gain in value.items()} if by_term else {name: value}
    return flat
