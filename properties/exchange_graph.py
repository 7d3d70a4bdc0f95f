"""What else could be matched, as a graph: every other matching is a set of cycles in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from detr_conformance.reference.assignment import Assignment


def exchange_graph(
    cost: Float[np.ndarray, "queries targets"],
    allowed_error: Float[np.ndarray, "queries targets"],
    optimum: Assignment,
) -> Float64[np.ndarray, "nodes nodes"]:
    """The least change of cost that rounding leaves to each single exchange in a matching.

        w(j -> k)    = (c[q_k, j] - e[q_k, j]) - (c[q_j, j] + e[q_j, j])
        w(j -> free) = min over unmatched q of (c[q, j] - e[q, j]) - (c[q_j, j] + e[q_j, j])
        w(free -> k) = 0

    The nodes are the targets, and a last one for all queries without a target. Along an edge j -> k, target
    j gives up its own query for that of k; the query of k after `free` becomes unmatched. Only whole cycles
    are matchings again: there, every query that is given up is taken by another target or left free, and
    the two errors of each edge are those of the pairs dropped and taken, each counted once.

    Symbols: c cost, e allowed error, q_j the query of target j.

    Args:
        cost: (queries, targets), queries >= targets.
        allowed_error: (queries, targets), >= 0 and finite.
        optimum: a matching of every target.

    Returns:
        (targets + 1, targets + 1), inf where there is no edge, as on the diagonal.
    """
    targets = cost.shape[1]
    query_of = optimum.rows[np.argsort(optimum.columns)]
    free = np.setdiff1d(np.arange(cost.shape[0]), query_of)
    kept, taken = (cost + allowed_error)[query_of, np.arange(targets)], cost - allowed_error
    graph = np.zeros((targets + 1, targets + 1))
    graph[:targets, :targets] = taken[query_of].T - kept[:, None]
    graph[:targets, targets] = taken[free].min(axis=0, initial=np.inf) - kept
    np.fill_diagonal(graph, np.inf)
    return graph


def every_cycle_exceeds(bound: float, graph: Float64[np.ndarray, "nodes nodes"]) -> bool:
    """Whether every cycle of a graph weighs more than `bound`.

        d_0 = w,   d_k(i, j) = min(d_{k-1}(i, j), d_{k-1}(i, k) + d_{k-1}(k, j))

    The diagonal starts at inf instead of 0, so d(i, i) becomes the shortest walk from i back to i. As long
    as no cycle is negative, that is a cycle; the first one that does not exceed the bound ends the search,
    since beyond a negative cycle walks would only grow shorter.

    Symbols: w weights, d_k(i, j) length of the shortest walk from i to j with none but the first k nodes in
    between.

    Args:
        bound: >= 0.
        graph: (nodes, nodes), weights of either sign, inf where there is no edge, the diagonal included.

    Returns:
        True too where there is no cycle.

    Reference: R. W. Floyd, Algorithm 97: Shortest path, Communications of the ACM 5(6), 1962,
    doi 10.1145/367766.368168.
    """
    walks = graph
    for node in range(len(graph)):
        walks = np.minimum(walks, walks[:, node, None] + walks[None, node, :])
        if walks.diagonal().min() <= bound:
            return False
    return True
