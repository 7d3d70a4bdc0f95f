"""What Ultralytics' constructors and functions may be called with: the order of their arguments, and the defaults.

They are those of the class API, in 8.4.40 as in 8.4.190. Whoever copies a signature is held to it here; whether its
defaults are those that the profile's members were published with is API-09's question, and Ultralytics' own are not.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Signature = Mapping[str, Any]
"""The optional arguments in their order, each with its default."""

ALWAYS_PASSED = object()
"""The default of an argument whose default nobody asks about."""
LOSS: Signature = {
    "nc": ALWAYS_PASSED,
    "loss_gain": {"class": 1.0, "bbox": 5.0, "giou": 2.0},
    "aux_loss": True,
    "use_fl": True,
    "use_vfl": False,
    "use_uni_match": False,
    "uni_match_ind": 0,
    "gamma": 1.5,
    "alpha": 0.25,
}
FORWARD: Signature = {"dn_bboxes": None, "dn_scores": None, "dn_meta": None}
"""After predictions and batch."""
GENERATOR: Signature = {"num_dn": 100, "cls_noise_ratio": 0.5, "box_noise_scale": 1.0, "training": False}
"""After batch, numbers of classes and queries, and the embedding of classes."""
BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COST_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
_MATCHER: Signature = {"cost_gain": _COST_GAIN, "use_fl": True, "alpha": 0.25, "gamma": 2.0}
_MATCHER_OF_MASKS: Signature = {
    "cost_gain": _COST_GAIN,
    "use_fl": True,
    "with_mask": False,
    "num_sample_points": 12544,
    "alpha": 0.25,
    "gamma": 2.0,
}


def signature_of_matcher(matcher: Callable[..., Any]) -> Signature:
    """With what masks need, which was between the other arguments until 8.4.160, where the matcher takes it."""
    return _MATCHER_OF_MASKS if any(each.name == "with_mask" for each in _parameters(matcher)) else _MATCHER


def called(
    function: Callable[..., Any],
    signature: Signature,
    options: Mapping[str, Any],
    passing: str,
    first: Sequence[Any] = (),
) -> Any:  # judged by the caller
    """What a function returns that gets its options in one of the ways of `properties.port.PASSING`.

    Args:
        function: the function, or class.
        signature: of its options.
        options: their values.
        passing: the way.
        first: the arguments before these.
    """
    if passing == "positions":
        return by_position(function, function, {**signature, **options}, first)
    has = _has_default(_parameters(function))
    return function(
        *first, **{name: each for name, each in options.items() if each != signature[name] or not has(name)}
    )


def by_position(
    function: Callable[..., Any], shape: Callable[..., Any], arguments: Mapping[str, Any], first: Sequence[Any]
) -> Any:  # judged by the caller
    """What a function returns that gets arguments by position; those that it takes in no other way by keyword.

    Args:
        function: the function, or class.
        shape: what says which arguments it takes by position.
        arguments: in their order.
        first: the arguments before these.
    """
    row, count = list(arguments.items()), max(_most_by_position(_parameters(shape), arguments) - len(first), 0)
    return function(*first, *(value for _, value in row[:count]), **dict(row[count:]))


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """None of a function in C, which need not say: it gets everything by keyword."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def _has_default(parameters: Sequence[inspect.Parameter]) -> Callable[[str], bool]:
    """Whether an argument may be left out: who demands it, or takes whatever is named, has promised no default.

    Whoever hands everything on, positions included, has those of a class behind it.
    """
    own = {each.name: each.default is not inspect.Parameter.empty for each in parameters}
    hands_on = {each.kind for each in parameters} >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return lambda name: own.get(name, hands_on)


def _most_by_position(parameters: Sequence[inspect.Parameter], arguments: Mapping[str, Any]) -> int:
    """How many arguments a function takes by position."""
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return sum(kind in BY_POSITION for kind in kinds)
    named = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return next((place for place, name in enumerate(arguments) if name in named), sys.maxsize)
