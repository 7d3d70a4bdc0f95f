"""Changes that leave a call good."""

from __future__ import annotations

from .fuzz_calls import Call, Draw
from .fuzz_forms import FORMS, predictions_of
from .fuzz_numbers import NEW_NUMBERS

GOOD = (*FORMS, *NEW_NUMBERS)
"""Each changes the call, or returns False: it does not apply."""


def vary(draw: Draw, call: Call, changes: int) -> None:
    """Apply so many changes, less those that do not apply; then let some of the predictions require a gradient."""
    for _ in range(changes):
        change = draw.choice(GOOD)
        if change(draw, call) is not False:
            call.notes.append(change.__name__)
    for name in predictions_of(call):  # whatever their layout
        call.arguments[name] = call.arguments[name].detach().requires_grad_(draw.flip(0.6))
