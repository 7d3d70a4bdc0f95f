"""What a call could change in the world around it, as far as it can be seen from this process.

PyTorch is looked at only where somebody has imported it already: the rules know no framework.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

GENERATOR = "global random generator"
"""How the names of generators end."""
SEEDS = (20_250_811, 20_260_105)
"""States that nobody else leaves a generator in."""


def snapshot() -> dict[str, bytes]:
    """The state of each global thing by its name."""
    generator: Any = np.random.get_state()  # noqa: NPY002  # the global generator is what is asked about
    _, keys, *rest = generator
    state = {
        f"NumPy's {GENERATOR}": keys.tobytes() + repr(rest).encode(),
        f"Python's {GENERATOR}": repr(random.getstate()).encode(),
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_default_dtype"):
        state |= {
            f"PyTorch's {GENERATOR}": torch.get_rng_state().numpy().tobytes(),
            "PyTorch's default dtype": str(torch.get_default_dtype()).encode(),
            "PyTorch's gradient mode": repr(torch.is_grad_enabled()).encode(),
        }
    return state


@contextmanager
def generators_elsewhere(seed: int = SEEDS[0]) -> Iterator[None]:
    """Global random generators in a state that nobody else leaves them in, and afterwards as they were.

    A call that sets a seed of its own would change nothing where an earlier one has set it already.
    """
    generator: Any = np.random.get_state()  # noqa: NPY002  # see above
    own = random.getstate()
    torch: Any = sys.modules.get("torch")
    has_torch = torch is not None and hasattr(torch, "get_rng_state")
    of_torch = torch.get_rng_state() if has_torch else None
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    if has_torch:
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
    try:
        yield
    finally:
        np.random.set_state(generator)  # noqa: NPY002
        random.setstate(own)
        if has_torch:
            torch.set_rng_state(of_torch)


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """The names of what is another state now. What was not there before has not changed."""
    return [name for name, state in before.items() if after.get(name) != state]


def set_by(call: Callable[[], object]) -> list[str]:
    """What a call sets: settings that it changes, and random generators that it puts into a state of its own.

    Drawing from a generator is ordinary: the state after it depends on the one before. It is called twice.
    """
    after, touched = list[dict[str, bytes]](), list[list[str]]()
    for seed in SEEDS:
        with generators_elsewhere(seed):
            before = snapshot()
            call()
            after.append(snapshot())
            touched.append(changed(before, after[-1]))
    return [name for name in touched[0] if not name.endswith(GENERATOR) or after[0][name] == after[1].get(name)]
