"""Importing parts of packages that import more than their losses need."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def without_init(*names: str) -> None:
    """Let modules of these packages be imported, and run no `__init__` of theirs.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    for name in names:
        if name in sys.modules:
            continue
        package = ModuleType(name)
        package.__path__ = [str(_folder(name))]
        sys.modules[name] = package


def _folder(name: str) -> Path:
    """Where a package lies, found without importing it."""
    parent, _, own = name.rpartition(".")
    if parent:
        return Path(sys.modules[parent].__path__[0]) / own
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return Path(found.submodule_search_locations[0])
