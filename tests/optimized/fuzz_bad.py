"""Changes that make a call bad."""

from __future__ import annotations

from dataclasses import replace

from .fuzz_bad_lists import BAD_LISTS
from .fuzz_bad_numbers import BAD_NUMBERS
from .fuzz_bad_tensors import BAD_TENSORS
from .fuzz_calls import Call, Draw

BAD = (*BAD_TENSORS, *BAD_LISTS, *BAD_NUMBERS)
"""Each changes the call and returns what the error may name, or returns None: it does not apply. Some weigh double."""


def spoil(draw: Draw, call: Call, changes: int) -> None:
    """Apply so many changes, each of which makes the call bad, or fewer where no more apply.

    Each is made to the good call, and then what it changed is taken over. Two changes of what must fit each other might
    make good what each makes bad, so they have to concern different arguments.
    """
    if changes and call.surface == "generator":  # else it would not look at its arguments
        call.arguments |= {"training": True, "num_dn": call.arguments["num_dn"] or 5}
    good = _copy(call)
    for _ in range(50 * changes):
        if len(call.refusals) == changes:
            return
        attempt, change = _copy(good), draw.choice(BAD)
        names = change(draw, attempt)
        if names and not any(set(names) & set(others) for others in call.refusals):
            _take_over(call.options, good.options, attempt.options)
            _take_over(call.arguments, good.arguments, attempt.arguments)
            call.notes += [change.__name__, *attempt.notes]
            call.refusals.append(names)


def _copy(call):
    return replace(call, options={**call.options}, arguments={**call.arguments}, notes=[])


def _take_over(mine, before, after):
    """Change in `mine` what differs between the other two."""
    for name in before:
        if name not in after:
            mine.pop(name, None)
    mine |= {name: value for name, value in after.items() if name not in before or value is not before[name]}
