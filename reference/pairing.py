"""Pairing: which matching each decoder layer uses, for its classes and for its boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from detr_conformance.reference.matcher import Matching
from detr_conformance.reference.options import LossConfig


class Pairs(NamedTuple):
    """The pairs of one layer, image by image.

    Attributes:
        classes: who is classified as which target.
        boxes: whose box is held against which target's. In DETR the same pairs.
    """

    classes: Sequence[Matching]
    boxes: Sequence[Matching]

    @staticmethod
    def same(matching: Sequence[Matching]) -> Pairs:
        """One matching for both."""
        return Pairs(matching, matching)


Match = Callable[[int], Sequence[Matching]]
"""The matching of one layer by its own costs."""


def check_shared_layer(uni_match_ind: int, auxiliary: int) -> None:
    """ValueError unless it is one of so many auxiliary layers."""
    if not 0 <= uni_match_ind < auxiliary:
        raise ValueError(f"uni_match_ind is {uni_match_ind}, expected a layer from 0 to {auxiliary - 1}")


def own_per_layer(match: Match, layers: int, config: LossConfig) -> list[Pairs]:
    """Every layer by its own costs.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 3.2 (auxiliary decoding losses).
    """
    return [Pairs.same(match(layer)) for layer in range(layers)]


def shared_if_asked(match: Match, layers: int, config: LossConfig) -> list[Pairs]:
    """With `use_uni_match` all auxiliary layers share the matching of one of them; the main layer keeps its own."""
    if not config.use_uni_match or layers == 1:
        return own_per_layer(match, layers, config)
    check_shared_layer(config.uni_match_ind, layers - 1)
    return [Pairs.same(match(config.uni_match_ind))] * (layers - 1) + [Pairs.same(match(layers - 1))]
