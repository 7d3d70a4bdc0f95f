"""Whether what a call did is what it may do."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence, Set

import numpy as np
import torch

from detr_conformance import optimized

from .fuzz_calls import SURFACES, Call
from .fuzz_checks import check


@contextlib.contextmanager
def _float64_by_default():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS = {
    "none": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "float64 by default": _float64_by_default,
}


def global_state():
    """What no call may change."""
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    return (*modes, torch.get_num_threads(), tuple(np.geterr().values()), torch.get_rng_state().sum().item())


def snapshot(value):
    """Everything about an argument that a call could change."""
    if isinstance(value, torch.Tensor):
        numbers = None if value.is_meta or value.is_sparse else value.detach().to(torch.complex128).numpy().tobytes()
        return value.dtype, value.shape, value.requires_grad, value._version, numbers
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, Mapping):
        return [(key, snapshot(each)) for key, each in value.items()]
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes)):
        return [snapshot(each) for each in value]
    return type(value), id(value)


def judge(call: Call) -> str:
    """Make the call; returns "refused", "returned" or, where the reference agrees on the numbers, "equal".

    Raises:
        AssertionError: the call did what it may not do.
    """
    __tracebackhide__ = True
    before, state = snapshot([call.options, call.arguments]), global_state()
    try:
        with CONTEXTS[call.context]():
            result = SURFACES[call.surface](optimized, call.options, call.arguments)
    except Exception as error:  # noqa: BLE001  # whatever it is
        _check_error(error, call)
        verdict = "refused"
    else:
        assert not call.refusals, f"a bad call was not refused, of {call.refusals}"
        verdict = "equal" if check(call, result) else "returned"
    assert snapshot([call.options, call.arguments]) == before, "an argument was changed"
    assert global_state()[:-1] == state[:-1], "the global state was changed"
    assert call.surface == "generator" or global_state() == state, "random numbers were drawn"
    return verdict


def _check_error(error, call):
    __tracebackhide__ = True
    assert call.refusals, f"a good call raised {error!r}"
    names = {name for names in call.refusals for name in names}
    assert type(error) in (ValueError, TypeError, KeyError), (
        f"a bad call raised {error!r}, expected ValueError, TypeError or KeyError"
    )
    message = str(error)
    assert any(name in message for name in names), f"{error!r} does not name {' or '.join(sorted(names))}"
    assert len(message) < 2000, f"a message of {len(message)} characters"
