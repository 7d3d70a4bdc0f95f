"""Mutants in what a backward pass makes of the gradient that comes from above, and of earlier passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference.backward import GradientsByKey, Weights

Accumulated = list[dict[str, Any]]
Passes = Sequence[Weights]

UPSTREAM = "automatic differentiation: grad_output of a custom backward is what comes from above"
SEVERAL = "automatic differentiation: a graph that is kept answers again, and .grad adds up"


def weighing(change: Callable[[float, str, Weights], float]) -> Change:
    """Weights other than those that come from above, from the weight, its loss and all weights of the pass."""

    def wrong(right: Callable[..., Accumulated], grads: GradientsByKey, passes: Passes) -> Accumulated:
        changed = [{key: change(weight, key, each) for key, weight in each.items()} for each in passes]
        return right(grads, changed)

    return wrapped("accumulated", wrong)


def passing(change: Callable[[Passes], Passes]) -> Change:
    """Other passes."""
    return wrapped("accumulated", lambda right, grads, passes: right(grads, change(passes)))


def only_first(passes: Passes) -> Passes:
    """Later passes find nothing that was kept."""
    return [each if place == 0 else {} for place, each in enumerate(passes)]


def scaled_in_place(passes: Passes) -> Passes:
    """A stored gradient has been multiplied by the weights of all passes so far."""

    def again(before: Weights, now: Weights) -> Weights:
        return {**before, **{key: weight * before.get(key, 1.0) for key, weight in now.items()}}

    together = list(accumulate(passes, again))
    return [{key: every[key] for key in own} for every, own in zip(together, passes, strict=True)]


def overwritten(right: Callable[..., Accumulated], grads: GradientsByKey, passes: Passes) -> Accumulated:
    """Each pass assigns what it finds instead of adding it."""
    return [right(grads, [each])[0] for each in passes]


BACKWARD_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-upstream-ignored",
        "GRAD",
        "A fused loss hands back the gradient that it has stored, whatever comes from above. Right: times that. Shows "
        "under a weight or a gradient scaler.",
        UPSTREAM,
        weighing(lambda _weight, _key, _weights: 1.0),
    ),
    Mutant(
        "plausible-upstream-of-the-first-loss",
        "GRAD",
        "A fused loss multiplies all gradients by what comes from above for the first of its losses. Right: each by "
        "its own. Shows under weights that differ.",
        UPSTREAM,
        weighing(lambda _weight, _key, weights: next(iter(weights.values()))),
    ),
    Mutant(
        "plausible-upstream-twice",
        "GRAD",
        "What comes from above is multiplied in twice. Right: once. Shows under any weight but 1.",
        UPSTREAM,
        weighing(lambda weight, _key, _weights: weight * weight),
    ),
    Mutant(
        "plausible-upstream-clipped",
        "GRAD",
        "What comes from above is clipped to 1. Right: as it is. Shows under a gradient scaler.",
        UPSTREAM,
        weighing(lambda weight, _key, _weights: min(weight, 1.0)),
    ),
    Mutant(
        "plausible-auxiliary-losses-unweighted",
        "GRAD",
        "Gradients of auxiliary losses do not heed what comes from above. Right: all do. Shows under a weight.",
        UPSTREAM,
        weighing(lambda weight, key, _weights: 1.0 if "aux" in key else weight),
    ),
    Mutant(
        "plausible-second-backward-empty",
        "GRAD",
        "The stored gradient is handed over once, and a second pass through a graph that is kept adds nothing. Right: "
        "the same again. Shows in the second of two passes.",
        SEVERAL,
        passing(only_first),
    ),
    Mutant(
        "plausible-stored-gradient-scaled-in-place",
        "GRAD",
        "What comes from above is multiplied into the stored gradient in place, and the next pass starts from there. "
        "Right: a copy. Shows in the second of two passes.",
        SEVERAL,
        passing(scaled_in_place),
    ),
    Mutant(
        "plausible-gradient-assigned",
        "GRAD",
        "Backward assigns the gradient of a prediction. Right: it adds to it. Shows in the second of two passes.",
        SEVERAL,
        wrapped("accumulated", overwritten),
    ),
)
