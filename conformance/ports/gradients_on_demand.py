"""Gradients that are taken when they are asked for: many rules never do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np


class GradientsOnDemand(Mapping[str, Mapping[str, np.ndarray]]):
    """Gradient of each loss with respect to each input that it is connected to.

    Args:
        keys: of the losses.
        take: makes the gradients of one loss, and is called once for each that is asked for.
    """

    def __init__(self, keys: Iterable[str], take: Callable[[str], Mapping[str, np.ndarray]]) -> None:
        self.keys_of_losses = tuple(keys)
        self.take = take
        self._taken: dict[str, Mapping[str, np.ndarray]] = {}

    def __getitem__(self, key: str) -> Mapping[str, np.ndarray]:
        if key not in self._taken:
            self._taken[key] = self.take(key)
        return self._taken[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of_losses)

    def __len__(self) -> int:
        return len(self.keys_of_losses)
