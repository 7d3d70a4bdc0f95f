"""The plain loss with other assignment solvers; where costs tie they find other matchings."""

from __future__ import annotations

from .plain_loss import PlainLoss
from .plain_matcher import PlainMatcher
from .solvers import RandomOrder, auction, augmenting_paths, cancelled_cycles, enumerated, maximised


def solved_by(solve):
    """The plain loss whose matcher has this solver."""

    class Matcher(PlainMatcher):
        def solve(self, cost):
            return solve(cost)

    class Loss(PlainLoss):
        matcher_class = Matcher

    return Loss


SOLVERS = {
    "augmenting-paths-in-float32": augmenting_paths,
    "auction": auction,
    "cancelled-cycles": cancelled_cycles,
    "enumerated-matchings": enumerated,
    "maximised-negative-costs": maximised,
}


def randomly_ordered(**options):
    """The plain loss that is matched in another random order in every call."""
    return solved_by(RandomOrder())(**options)
