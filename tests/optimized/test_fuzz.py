"""Random bad and extreme calls of all that is public: refused by name, or as the reference has it. Nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch

from detr_conformance.optimized.backends.choice import DEFAULTS

from ..thorough import thorough_but
from .fuzz_bad import BAD, spoil
from .fuzz_calls import Call, Draw
from .fuzz_good import GOOD, vary
from .fuzz_inputs import WEIGHTS, valid_call
from .fuzz_judge import judge

# The shapes are what the functions themselves are to complain about.
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

EACH, BLOCKS = 100, 200
QUICK = [("native", block) for block in range(10)]


def call_of(seed: int) -> Call:
    """A valid call after one to three changes."""
    draw = Draw(seed)
    call = valid_call(draw)
    good, bad = draw.choice([(1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (0, 2), (2, 1)])
    vary(draw, call, good)
    spoil(draw, call, bad)
    return call


def outcome(seed: int) -> str:
    """What came of the call: "refused", "equal" to the reference, or "returned" where its numbers are not certain."""
    __tracebackhide__ = True
    call = call_of(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return judge(call)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {call.surface} after: {'; '.join(call.notes)}; options {call.options}")
            raise


@pytest.mark.parametrize(("backend", "block"), thorough_but(QUICK, product(("native", "torch"), range(BLOCKS))))
def test_every_call_is_refused_by_name_or_returns_what_the_reference_does(backend, block, record_property, monkeypatch):
    monkeypatch.setitem(DEFAULTS, "cpu", backend)
    outcomes = Counter(outcome(seed) for seed in range(block * EACH, (block + 1) * EACH))
    record_property("outcomes", dict(outcomes))  # in the report of `pytest --junit-xml`
    assert set(outcomes) == {"refused", "equal", "returned"}


def test_everything_is_called_and_every_change_is_made():
    calls = [call_of(seed) for seed in range(1000)]
    assert {call.surface for call in calls} == set(WEIGHTS)
    assert {note for call in calls for note in call.notes} >= {change.__name__ for change in (*BAD, *GOOD)}
