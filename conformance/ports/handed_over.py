"""Lists and dictionaries that a loss is called with: they are the caller's, and the next call's too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class HandedOver:
    """What was handed over, and what it held then."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._watched: list[tuple[str, Any, Any]] = []

    def watch(self, name: str, container: Any) -> Any:  # comes back as it is
        """Remember what a list or dictionary holds; returns it."""
        self._watched.append((name, container, _held(container)))
        return container

    def changed(self) -> list[str]:
        """Names of entries that are no longer what they were, such as `batch['gt_groups'][0]`.

        What was added to a dictionary is no change: nobody reads it.
        """
        return [each for name, container, held in self._watched for each in _changes(name, held, _held(container))]


def _held(value: Any) -> Any:  # whatever is handed over
    """Lists and dictionaries entry by entry; numbers and text as they are; of anything else which object it is."""
    if isinstance(value, Mapping):
        return {key: _held(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_held(each) for each in value]
    return value if isinstance(value, (bool, int, float, str)) or value is None else id(value)


def _changes(name: str, before: Any, after: Any) -> Iterator[str]:  # see above
    if isinstance(before, dict) and isinstance(after, dict):
        for key, each in before.items():
            yield from _changes(f"{name}[{key!r}]", each, after[key]) if key in after else [f"{name}[{key!r}]"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{name}[{place}]", one, other)
    elif type(before) is not type(after) or before != after:
        yield name
