"""How a port's matching is judged: by its cost, never by the indices that another solver picks.

Rounding blurs which matching is cheapest. Both questions here are asked of all costs c' within reach:

    |c'_qt - c_qt| <= e_qt for all queries q and targets t,

where e, the *allowed error*, says how far off a port's own computation of each cost may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from detr_conformance.properties.exchange_graph import every_cycle_exceeds, exchange_graph
from detr_conformance.reference.assignment import Assignment, linear_sum_assignment

PAIRS_SHOWN = 4
"""So many pairs of each side are spelt out in a message."""

Matrix = Float64[np.ndarray, "queries targets"]
"""A number for every pair of a query and a target of one image."""

Pairs = Bool[np.ndarray, "queries targets"]
"""A set of pairs, True where they are."""


@dataclass(frozen=True)
class Certificate:
    """The judgement on one image's matching.

    Attributes:
        defect: what is wrong, as a sentence with what was expected and what came; None if it is legal.
        excess: how much more it costs than the rival that speaks most against it; inf if it is no matching.
        allowance: how much of that rounding explains.
    """

    defect: str | None
    excess: float
    allowance: float

    @property
    def share(self) -> float:
        """excess / allowance: above 1 for an illegal matching, 0 where there is no excess."""
        if self.excess <= 0.0:
            return 0.0
        return self.excess / self.allowance if self.allowance > 0.0 else math.inf


def certify(
    cost: Matrix,
    allowed_error: Matrix,
    queries: Int[np.ndarray, " claimed_queries"],
    targets: Int[np.ndarray, " claimed_targets"],
) -> Certificate:
    """Decide whether a matching has the right size and is the cheapest one for some costs within reach.

        M legal  <=>  c(M - R) - c(R - M) <= e(M - R) + e(R - M) + r   for every matching R

    Why: let M be cheapest for some costs c' within reach. Then c'(M) <= c'(R), the pairs that both have
    cancel, and c' is off from c by at most e(M - R) on one side and e(R - M) on the other. Conversely, of all
    costs within reach those that favour M most are c - e on its pairs and c + e elsewhere, so M need only be
    cheapest for those: one assignment problem decides about every R. The rival reported is its solution, or
    the cheapest matching for c, whichever leaves M the larger share. That no other is cheaper, the solver's
    potentials prove (`Assignment`).

    Symbols: M - R the pairs of M that R lacks, c(M) the costs of M's pairs summed, e(M) their allowed errors
    summed, r what a solver in float64 may add to the cost by rounding.

    Args:
        cost: (queries, targets), finite; either side may be 0.
        allowed_error: (queries, targets), >= 0; inf where nothing is known. It covers what a port computes
            before it solves; a solver in less than float64 makes errors that belong here as well.
        queries: the query of each claimed pair, in any order.
        targets: the target of each claimed pair.

    Returns:
        The certificate; its `defect` is None if and only if the matching is legal.

    Raises:
        ValueError: `cost` is not finite, or `allowed_error` is negative, NaN or of another shape.

    Reference: R. E. Burkard, M. Dell'Amico, S. Martello, Assignment Problems, SIAM 2009, chapter 4,
    doi 10.1137/1.9780898717754.
    """
    errors = _bounded(allowed_error, cost)
    defect = _structural_defect(cost.shape, queries, targets)
    if defect is not None:
        return Certificate(defect, math.inf, 0.0)
    optimum = linear_sum_assignment(cost)
    claimed = _pairs(cost.shape, queries, targets)
    favouring = linear_sum_assignment(np.where(claimed, cost - errors, cost + errors))
    rivals = [_pairs(cost.shape, solved.rows, solved.columns) for solved in (optimum, favouring)]
    rounding = _solver_rounding(optimum)
    verdicts = [_compared(cost, errors, claimed, rival, rounding) for rival in rivals]
    return max(verdicts, key=attrgetter("share"))


def is_unambiguous(cost: Matrix, allowed_error: Matrix) -> bool:
    """Decide whether one and the same matching is the cheapest one for all costs within reach.

        unambiguous  <=>  every cycle of the exchange graph weighs more than r

    Any other matching differs from the cheapest one by exchanges of queries around cycles without a common
    target, and each cycle on its own is such a difference. So another matching can be the cheapest for costs
    within reach if and only if some cycle weighs nothing, once rounding has taken off all that it may.

    Symbols: r what a solver in float64 may add to the cost by rounding.

    Args:
        cost: (queries, targets), finite; either side may be 0.
        allowed_error: (queries, targets), >= 0; inf where nothing is known.

    Returns:
        True if `certify` accepts the cheapest matching and no other.

    Raises:
        ValueError: `cost` is not finite, or `allowed_error` is negative, NaN or of another shape.

    Reference: R. K. Ahuja, T. L. Magnanti, J. B. Orlin, Network Flows, Prentice Hall 1993, section 9.3
    (optimality by the absence of negative cycles).
    """
    errors = _bounded(allowed_error, cost)
    if cost.shape[0] < cost.shape[1]:
        cost, errors = cost.T, errors.T
    optimum = linear_sum_assignment(cost)
    return every_cycle_exceeds(_solver_rounding(optimum), exchange_graph(cost, errors, optimum))


def _bounded(allowed_error: Float[np.ndarray, "..."], cost: Matrix) -> Matrix:
    """The allowed errors, cut to a size that bridges the difference between any two matchings."""
    if allowed_error.shape != cost.shape:
        raise ValueError(f"allowed_error has shape {allowed_error.shape}, expected {cost.shape} as cost has")
    wrong = ~(allowed_error >= 0.0)  # true for NaN too
    if wrong.any():
        query, target = np.argwhere(wrong)[0]
        raise ValueError(f"allowed_error must be >= 0, got {allowed_error[wrong][0]} at [{query}, {target}]")
    widest = 2.0 * min(cost.shape) * float(np.abs(cost).max(initial=0.0))
    bounded: Matrix = np.minimum(allowed_error, widest + 1.0)
    return bounded


def _solver_rounding(optimum: Assignment) -> float:
    """r = eps (queries + targets) max(|u|, |v|): one rounding of the largest potential for each of them."""
    potentials = np.concatenate([optimum.row_potentials, optimum.column_potentials])
    return float(np.finfo(np.float64).eps * potentials.size * np.abs(potentials).max(initial=0.0))


def _structural_defect(
    shape: tuple[int, ...],
    queries: Int[np.ndarray, " claimed_queries"],
    targets: Int[np.ndarray, " claimed_targets"],
) -> str | None:
    """What keeps the claimed pairs from being a one-to-one matching of the right size, if anything."""
    if len(queries) != len(targets):
        return f"Expected one target for each query, got {len(queries)} queries and {len(targets)} targets."
    for side, size, indices in zip(("query", "target"), shape, (queries, targets), strict=True):
        outside = np.flatnonzero((indices < 0) | (indices >= size))
        if len(outside):
            return f"Expected every {side} in [0, {size}), got {indices[outside[0]]} at pair {outside[0]}."
        chosen, times = np.unique(indices, return_counts=True)
        if (times > 1).any():
            return f"Expected every {side} at most once, got {side} {chosen[times > 1][0]} more often."
    if len(queries) != min(shape):
        return f"Expected min(queries, targets) = min{shape} = {min(shape)} pairs, got {len(queries)}."
    return None


def _pairs(shape: tuple[int, ...], queries: Int[np.ndarray, " pairs"], targets: Int[np.ndarray, " pairs"]) -> Pairs:
    """A matching as a set of pairs."""
    pairs = np.zeros(shape, dtype=bool)
    pairs[queries, targets] = True
    return pairs


def _compared(cost: Matrix, errors: Matrix, claimed: Pairs, rival: Pairs, rounding: float) -> Certificate:
    """Judge the claimed matching by a single rival, on the pairs in which they differ."""
    dropped, taken = claimed & ~rival, rival & ~claimed
    excess = math.fsum([*cost[dropped], *-cost[taken]])
    allowance = math.fsum([*errors[dropped], *errors[taken], rounding])
    if excess <= allowance:
        return Certificate(None, excess, allowance)
    claim, better = (f"{_listed(pairs)} cost {math.fsum(cost[pairs]):.9g}" for pairs in (dropped, taken))
    limit = f"expected at most {allowance:.3g} more, got {excess:.3g}"
    return Certificate(f"The pairs (query, target) {claim}, where {better}: {limit}.", excess, allowance)


def _listed(pairs: Pairs) -> str:
    """The first few pairs, spelt out."""
    every = [f"({query}, {target})" for query, target in np.argwhere(pairs)]
    more = f" and {len(every) - PAIRS_SHOWN} more" if len(every) > PAIRS_SHOWN else ""
    return ", ".join(every[:PAIRS_SHOWN]) + more
