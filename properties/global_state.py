"""What a call could change in the world around it, as far as it can be seen from this process.

PyTorch is looked at only where somebody has imported it already: the rules know no framework.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

# Not Python's own `random`: whoever checks types at run time, as beartype does, draws from it.


def snapshot() -> dict[str, bytes]:
    """The state of each global thing by its name."""
    generator: Any = np.random.get_state()  # noqa: NPY002  # the global generator is what is asked about
    _, keys, *rest = generator
    state = {"NumPy's global random generator": keys.tobytes() + repr(rest).encode()}
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_default_dtype"):
        state |= {
            "PyTorch's global random generator": torch.get_rng_state().numpy().tobytes(),
            "PyTorch's default dtype": str(torch.get_default_dtype()).encode(),
            "PyTorch's gradient mode": repr(torch.is_grad_enabled()).encode(),
        }
    return state


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """The names of what is another state now. What was not there before has not changed."""
    return [name for name, state in before.items() if after.get(name) != state]
