"""Covering arrays of strength 2: few rows in which every two values of two factors come together.

Two options that are right alone may be wrong together. All combinations are too many to try; all pairs are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Row = Mapping[str, Any]
"""The value of each factor, or of some of them, by name."""
Allowed = Callable[[Row], bool]
"""Whether such values may come together; what is allowed as a whole is allowed in part."""
Hidden = Callable[[Row], Iterable[tuple[str, str]]]
"""The factors whose values make no difference in such a row, each with one because of which it makes none."""
Pair = frozenset[tuple[str, int]]
"""Two factors, each with the place of one of its values."""

STARTS = 5
"""So many rows are tried before the best of them is taken."""


def all_pairs(factors: Mapping[str, Sequence[Any]], allowed: Allowed) -> list[Pair]:
    """Every two values of two factors that may come together."""
    return [
        frozenset({(one, i), (other, j)})
        for one, other in combinations(factors, 2)
        for i in range(len(factors[one]))
        for j in range(len(factors[other]))
        if allowed({one: factors[one][i], other: factors[other][j]})
    ]


def pairs_in(row: Mapping[str, int], factors: Mapping[str, Sequence[Any]], hidden: Hidden) -> Iterator[Pair]:
    """The pairs that a row shows: without those one value of which makes no difference because of a third factor."""
    because_of: dict[str, set[str]] = {}
    for name, other in hidden(_values(row, factors)):
        because_of.setdefault(name, {name}).add(other)
    for one, other in combinations(row, 2):
        if because_of.get(one, {one}) | because_of.get(other, {other}) == {one, other}:
            yield frozenset({(one, row[one]), (other, row[other])})


def covering_array(factors: Mapping[str, Sequence[Any]], allowed: Allowed, hidden: Hidden) -> Iterator[Row]:
    """Rows that show every pair that may come together, as few as a greedy search finds; always the same ones.

    A pair that no row shows is left out: its values may come together, but not with any of the others.

    Reference: Cohen, Dalal, Fredman, Patton, The AETG system, IEEE Transactions on Software Engineering 23 (1997).
    """
    still_open = dict.fromkeys(all_pairs(factors, allowed))

    def shown(row: Mapping[str, int]) -> set[Pair]:
        return still_open.keys() & pairs_in(row, factors, hidden)

    while still_open:
        first, *others = still_open
        starts = [first, *others[:: max(len(others) // STARTS, 1)][:STARTS]]
        made = [row for start in starts if (row := _row_with(start, factors, allowed, shown)) is not None]
        if not made:
            del still_open[first]
            continue
        best = max(made, key=lambda row: len(shown(row)))
        for pair in shown(best):
            del still_open[pair]
        yield _values({name: best[name] for name in factors}, factors)


def _row_with(
    start: Pair,
    factors: Mapping[str, Sequence[Any]],
    allowed: Allowed,
    shown: Callable[[Mapping[str, int]], set[Pair]],
) -> dict[str, int] | None:
    """A row that shows a pair; None where none is found.

    One factor after the other, that with most values first, gets the value that shows most open pairs with those chosen
    before; the first of them where several do.
    """
    row = dict(sorted(start))
    for name in sorted(factors.keys() - row.keys(), key=lambda name: (-len(factors[name]), name)):
        choices = [{**row, name: place} for place in range(len(factors[name]))]
        pairs = [shown(each) if allowed(_values(each, factors)) else set() for each in choices]
        best = max(range(len(choices)), key=lambda place: (start in pairs[place], len(pairs[place])))
        if start not in pairs[best]:
            return None
        row = choices[best]
    return row


def _values(row: Mapping[str, int], factors: Mapping[str, Sequence[Any]]) -> Row:
    return {name: factors[name][place] for name, place in row.items()}
