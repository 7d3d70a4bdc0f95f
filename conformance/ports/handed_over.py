"""Lists and dictionaries that a loss is called with: they are the caller's, and the next call's too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import starmap
from typing import Any

from torch import Tensor


class HandedOver:
    """What was handed over, and what it held then."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._watched: list[tuple[str, Any, Any]] = []

    def watch(self, name: str, container: Any) -> Any:  # comes back as it is
        """Remember what a list or dictionary holds; returns it.

        Or one that was handed over by this name before, and held the same then: a caller keeps its targets.
        """
        held = _held(container)
        for own, before, then in self._watched:
            if own == name and _alike(then, held):
                return before
        self._watched.append((name, container, held))
        return container

    def changed(self) -> list[str]:
        """Names of entries that are no longer what they were, such as `batch['gt_groups'][0]`.

        What was added to a dictionary is no change: nobody reads it.
        """
        return [each for name, container, held in self._watched for each in _changes(name, held, container)]


def _held(value: Any) -> Any:  # whatever is handed over
    """Copies of lists and dictionaries; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: _held(each) for key, each in value.items()}
    return [_held(each) for each in value] if isinstance(value, (list, tuple)) else value


def _alike(one: Any, other: Any) -> bool:  # see above
    """Whether the same numbers are in the same places; tensors are the same where they lie in the same memory."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(each, other[key]) for key, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(starmap(_alike, zip(one, other, strict=True)))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.data_ptr() == other.data_ptr() and one.shape == other.shape
    return one is other or (_is_told(one) and one == other)


def _changes(name: str, before: Any, after: Any) -> Iterator[str]:  # see above
    if isinstance(before, dict) and isinstance(after, Mapping):
        for key, each in before.items():
            yield from _changes(f"{name}[{key!r}]", each, after[key]) if key in after else [f"{name}[{key!r}]"]
    elif isinstance(before, list) and isinstance(after, (list, tuple)) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{name}[{place}]", one, other)
    elif before is not after and not (_is_told(before) and type(before) is type(after) and before == after):
        yield name


def _is_told(value: Any) -> bool:  # see above
    """Whether it is a number or text: which object holds it does not matter."""
    return isinstance(value, (bool, int, float, str))
