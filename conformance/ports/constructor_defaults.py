"""What a constructor sets where nothing is passed, read off its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def defaults_of(constructor: Callable[..., Any], **names: str | Mapping[str, str]) -> dict[str, Any]:
    """The defaults of arguments, by the names of options.

    Args:
        constructor: a class or a function.
        names: for each option of `detr_conformance.reference.recipe.OPTIONS` what the argument is called; of gains by
            term.

    Returns:
        The options whose arguments have a number as their default.

    Example:
        `defaults_of(Criterion, alpha="focal_alpha", cost_gain={"class": "set_cost_class"})`
    """
    parameters = inspect.signature(constructor).parameters
    found: dict[str, Any] = {}
    for option, argument in names.items():
        if isinstance(argument, str):
            found |= _numbers(parameters, {option: argument})
        else:
            gains = _numbers(parameters, argument)
            found |= {option: gains} if gains else {}
    return found


def _numbers(parameters: Mapping[str, inspect.Parameter], names: Mapping[str, str]) -> dict[str, float]:
    """The defaults that are numbers."""
    defaults = {name: parameters[argument].default for name, argument in names.items() if argument in parameters}
    return {name: value for name, value in defaults.items() if isinstance(value, (int, float))}
