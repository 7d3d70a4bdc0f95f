"""Which matching each layer uses."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.reference import LossConfig
from detr_conformance.reference.pairing import (
    own_per_layer,
    shared_from_the_last,
    shared_if_asked,
    union_of_layers,
    votes_are_clear,
)


def matching(*pairs):
    """The matching of a batch of one image."""
    queries, targets = zip(*pairs, strict=True)
    return [(np.array(queries), np.array(targets))]


LAYERS = [matching((0, 0), (1, 1)), matching((1, 0), (0, 1)), matching((2, 0), (1, 1))]
"""Three layers for two targets, all matched differently."""


@pytest.mark.parametrize(
    ("pairing", "options", "expected"),
    [
        (own_per_layer, {"use_uni_match": True}, [0, 1, 2]),
        (shared_if_asked, {"use_uni_match": False}, [0, 1, 2]),
        (shared_if_asked, {"use_uni_match": True, "uni_match_ind": 1}, [1, 1, 2]),
        (shared_from_the_last, {"use_uni_match": False}, [0, 1, 2]),
        (shared_from_the_last, {"use_uni_match": True}, [2, 2, 2]),
    ],
)
def test_a_layer_uses_the_matching_of(pairing, options, expected):
    paired = pairing(LAYERS.__getitem__, 3, LossConfig(**options))
    assert [each.classes for each in paired] == [LAYERS[layer] for layer in expected]
    assert [each.boxes for each in paired] == [LAYERS[layer] for layer in expected]


def test_boxes_of_all_layers_answer_to_the_vote_and_classes_to_their_own_layer():
    votes = [matching((0, 0), (1, 1)), matching((0, 0), (1, 1)), matching((0, 1), (2, 0))]
    paired = union_of_layers(votes.__getitem__, 3, LossConfig())
    assert [each.classes for each in paired] == votes
    for each in paired:
        [(queries, targets)] = each.boxes
        assert (queries.tolist(), targets.tolist()) == ([0, 1, 2], [0, 1, 0])


def test_a_query_with_as_many_votes_for_each_of_two_targets_is_not_clear():
    assert votes_are_clear([matching((0, 0)), matching((0, 0)), matching((0, 1))])
    assert not votes_are_clear([matching((0, 0)), matching((0, 1))])
