"""Ambiguity as cycles of the exchange graph; `test_matching.py` compares it with brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_conformance.properties.exchange_graph import every_cycle_exceeds, exchange_graph
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.reference.assignment import linear_sum_assignment

INF = math.inf


def test_the_graph_of_a_small_problem_can_be_followed_by_hand():
    cost = np.array([[1.0, 5.0], [2.0, 4.0], [9.0, 8.0], [7.0, 9.0]])  # queries 0 and 1 are matched
    graph = exchange_graph(cost, np.full_like(cost, 0.25), linear_sum_assignment(cost))
    assert graph.tolist() == [[INF, 0.5, 5.5], [0.5, INF, 3.5], [0.0, 0.0, INF]]


def test_without_a_free_query_no_edge_leads_to_the_free_node():
    cost = np.array([[1.0, 5.0], [2.0, 4.0]])
    graph = exchange_graph(cost, np.zeros_like(cost), linear_sum_assignment(cost))
    assert graph[:, 2].tolist() == [INF, INF, INF]


@pytest.mark.parametrize(("weight", "exceeds"), [(-3.0, False), (-2.0, False), (-1.5, True)])
def test_a_cycle_through_every_node_is_weighed(weight, exceeds):
    graph = np.full((4, 4), INF)
    graph[[0, 1, 2, 3], [1, 2, 3, 0]] = [1.0, 0.5, 0.5, weight]
    assert every_cycle_exceeds(0.0, graph) == exceeds


def test_a_graph_full_of_negative_cycles_is_decided_before_its_walks_overflow():
    assert not every_cycle_exceeds(0.0, np.full((500, 500), -1e300))


@pytest.mark.parametrize("nodes", [0, 1, 5])
def test_where_there_is_no_cycle_every_cycle_exceeds(nodes):
    assert every_cycle_exceeds(0.0, np.where(np.tri(nodes, k=-1) > 0, -1.0, INF))


def test_one_query_and_one_target_leave_no_choice_whatever_the_error():
    assert is_unambiguous(np.array([[3.0]]), np.array([[math.inf]]))


def test_equal_queries_are_ambiguous_only_where_one_of_them_is_matched():
    twins = np.array([[1.0, 2.0], [3.0, 0.0], [3.0, 0.0]])
    assert not is_unambiguous(twins, np.zeros_like(twins))
    spectators = np.array([[1.0, 2.0], [3.0, 0.0], [9.0, 9.0], [9.0, 9.0]])
    assert is_unambiguous(spectators, np.zeros_like(spectators))


def test_a_problem_of_full_size_is_decided():
    cost = np.random.default_rng(8).uniform(size=(300, 60))
    assert is_unambiguous(cost, np.full_like(cost, 1e-9))
    assert not is_unambiguous(cost, np.full_like(cost, 1e-1))


def test_a_difference_that_only_the_rounding_of_decimals_makes_is_none():
    cost = np.array([[0.3, 0.1], [0.2, 0.0]])  # 0.1 + 0.2 is not 0.3
    assert cost[0, 1] + cost[1, 0] != cost[0, 0] + cost[1, 1]
    assert not is_unambiguous(cost, np.zeros_like(cost))
