"""Pairing: which matching each decoder layer uses, for its classes and for its boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

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


def shared_from_the_last(match: Match, layers: int, config: LossConfig) -> list[Pairs]:
    """With `use_uni_match` all layers use the matching of the main one; RT-DETRv2's `share_matched_indices`."""
    if not config.use_uni_match:
        return own_per_layer(match, layers, config)
    return [Pairs.same(match(layers - 1))] * layers


def union_of_layers(match: Match, layers: int, config: LossConfig) -> list[Pairs]:
    """Classes by the layer's own costs; boxes by the vote of all layers, one set of pairs for each of them.

    Reference: Peng et al., D-FINE, arXiv 2410.13842, appendix (matching union across layers).
    """
    own = [match(layer) for layer in range(layers)]
    union = [_most_voted(of_image) for of_image in zip(*own, strict=True)]
    return [Pairs(each, union) for each in own]


def votes_of(matchings: Sequence[Matching]) -> dict[int, Counter[int]]:
    """For each query of an image how many layers match it with each target."""
    votes: dict[int, Counter[int]] = {}
    for queries, targets in matchings:
        for query, target in zip(queries.tolist(), targets.tolist(), strict=True):
            votes.setdefault(query, Counter())[target] += 1
    return votes


def _most_voted(matchings: Sequence[Matching]) -> Matching:
    """Every query that any layer matches, with the target that most of them give it."""
    votes = sorted(votes_of(matchings).items())
    return _indices([query for query, _ in votes]), _indices([of_query.most_common(1)[0][0] for _, of_query in votes])


def _indices(numbers: Sequence[int]) -> Int64[np.ndarray, " _pairs"]:
    return np.array(numbers, dtype=np.int64)


def always_clear(own: Sequence[Sequence[Matching]]) -> bool:
    """Layers that do not vote leave nothing open."""
    return True


def votes_are_clear(own: Sequence[Sequence[Matching]]) -> bool:
    """Whether no query has two targets that as many layers give it: implementations may take either."""
    for of_image in zip(*own, strict=True):
        for of_query in votes_of(of_image).values():
            (_, most), *others = of_query.most_common()
            if others and others[0][1] == most:
                return False
    return True
