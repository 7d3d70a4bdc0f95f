"""What the results come to: the figures of `docs/power.md`."""

from __future__ import annotations

from detr_conformance.generated_power import GeneratedPower, Share, Survivor
from detr_conformance.power import LEVELS

from .mutants import all_mutants
from .results import of_outcome
from .survivors import why


def power_of(results) -> GeneratedPower:
    """The figures of these results."""
    return GeneratedPower(
        mutants=len(all_mutants()),
        judged=len(results),
        equivalent=len(of_outcome(results, "equivalent")),
        hanging=len(of_outcome(results, "hangs")),
        raising=sum(each.raises for each in results.values()),
        levels=_by_level(results),
        operators=_by_operator(results),
        survivors=[Survivor(id=each, change=str(all_mutants()[each]), why=why(each)) for each in _survivors(results)],
    )


def _survivors(results) -> list[str]:
    return of_outcome(results, "survived")


def _differing(results) -> list[str]:
    return [*of_outcome(results, "killed"), *_survivors(results)]


def _by_level(results) -> dict[str, Share]:
    """Up to the highest that all survivors were judged at."""
    differing = _differing(results)
    reached = min((LEVELS.index(results[each].level) for each in _survivors(results)), default=0)
    shares = {}
    for place, level in enumerate(LEVELS[: reached + 1]):
        killed = [each for each in of_outcome(results, "killed") if LEVELS.index(results[each].level) <= place]
        shares[level] = Share(len(killed), len(differing))
    return shares


def _by_operator(results) -> dict[str, Share]:
    differing, killed = (
        [_operator(each) for each in kind] for kind in (_differing(results), of_outcome(results, "killed"))
    )
    return {each: Share(killed.count(each), differing.count(each)) for each in sorted(set(differing))}


def _operator(name) -> str:
    return name.split("/")[1]
