"""Process state that a port may change for everything that runs after it: compared, reported and restored."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from detr_conformance.properties.global_state import generators_elsewhere


class Setting(NamedTuple):
    """A global setting.

    Attributes:
        name: what a message calls it.
        read: its value, in a form that later changes do not reach.
        write: sets it to such a value.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _folder() -> str:
    with suppress(OSError):  # it was deleted
        return os.getcwd()  # noqa: PTH109  # a Path would ask for the folder again
    return ""


def _change_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _change_search_path(folders: list[str]) -> None:
    sys.path[:] = folders


def _change_filters(filters: list[Any]) -> None:
    """Leave the list to `catch_warnings`, which also clears what Python remembers of it."""


SETTINGS = (
    Setting("the environment variables", lambda: dict(os.environ), _change_environment),
    Setting("the working folder", _folder, os.chdir),
    Setting("Python's search path", lambda: list(sys.path), _change_search_path),
    Setting("Python's warnings filters", lambda: list(warnings.filters), _change_filters),
    Setting("NumPy's error handling", np.geterr, lambda handling: np.seterr(**handling)),
)


def _settings() -> tuple[Setting, ...]:
    """All settings of what is imported. Not PyTorch's number of threads: concurrent calls may leave it either way."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        return SETTINGS
    return (
        *SETTINGS,
        Setting("PyTorch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("PyTorch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        Setting("PyTorch's anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        Setting(
            "PyTorch's deterministic mode",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
    )


@contextmanager
def restored_state() -> Iterator[list[str]]:
    """Restore every global setting on exit; the list that it gives then names those that had changed.

    On entry the global random generators are set to the same state each time: no verdict depends on earlier calls.
    Whoever draws from them does nothing wrong.
    """
    touched: list[str] = []
    with generators_elsewhere(), warnings.catch_warnings():
        settings = _settings()
        before = [each.read() for each in settings]
        try:
            yield touched
        finally:
            touched += _restored(settings, before)


def _restored(settings: tuple[Setting, ...], before: list[Any]) -> list[str]:
    """Restore what has changed, and return its names."""
    touched = []
    for setting, value in zip(settings, before, strict=True):
        now = setting.read()
        if now != value:
            touched.append(setting.name + _which(value, now))
            with suppress(OSError):  # the folder was deleted
                setting.write(value)
    return touched


def _which(before: Any, now: Any) -> str:  # noqa: ANN401  # whatever a setting's value is
    """The names of variables that differ."""
    if not isinstance(before, dict):
        return ""
    return f" ({', '.join(sorted(name for name in {*before, *now} if before.get(name) != now.get(name)))})"
