"""Random bad and extreme calls of all that is public: refused by name, or as the reference has it. Nothing else."""

from __future__ import annotations

import pytest

from .fuzz_bad import spoil
from .fuzz_calls import Call, Draw
from .fuzz_good import change, with_gradients
from .fuzz_inputs import valid_call
from .fuzz_judge import judge

# The shapes are what the functions themselves are to complain about.
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

EACH = 100
BLOCKS = [pytest.param(block, marks=[pytest.mark.slow] if block >= 10 else []) for block in range(200)]
"""20,000 calls in all; without the slow ones 1,000."""


def call_of(seed: int) -> Call:
    """A valid call after one to three changes."""
    draw = Draw(seed)
    call = valid_call(draw)
    good, bad = draw.choice([(1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (0, 2), (2, 1)])
    for _ in range(good):
        change(draw, call)
    with_gradients(draw, call)
    spoil(draw, call, bad)
    return call


def outcome(seed: int) -> str:
    """What came of the call; fails with its seed."""
    __tracebackhide__ = True
    call = call_of(seed)
    try:
        return judge(call)
    except Exception as error:
        error.add_note(f"seed {seed}: {call.surface} after: {'; '.join(call.notes)}; options {call.options}")
        raise


@pytest.mark.parametrize("block", BLOCKS)
def test_every_call_is_refused_by_name_or_returns_what_the_reference_does(block):
    for seed in range(block * EACH, (block + 1) * EACH):
        outcome(seed)
